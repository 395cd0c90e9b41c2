r"""One shape for answers that are written differently but state the same thing, before they are compared.

``x = 2, 3`` lists the values of x; ``1 \pm \sqrt{2}`` lists two values; ``0 < x < 1``, ``x \in (0, 1)`` and ``(0, 1)``
are one interval; ``x < 1`` or ``x > 3`` is a union; ``x \ne 3`` is the line without a point.
"""

from rewards.math_tree import Node, negative, number, symbol

INFINITY = symbol("infinity")
LINE = Node("group", (negative(INFINITY), INFINITY), "()")
_EXPRESSIONS = frozenset(("number", "symbol", "sum", "product", "power", "call"))
_MAX_VALUES = 64  # of an answer with several signs of plus-minus
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LABEL_CALLS = frozenset(("f()", "g()", "sin", "cos", "tan", "sec", "csc", "cot", "gcd", "lcm", "max", "min", "det"))


def is_expression(node: Node) -> bool:
    return node.kind in _EXPRESSIONS


def is_endless(node: Node) -> bool:
    return node in (INFINITY, negative(INFINITY))


def is_label(node: Node) -> bool:
    """Whether ``node = 5`` only names the value 5: ``x``, ``f(2)``, ``m+n``, ``(p,q)``, ``|S|`` of a set S.

    ``11a+c``, ``-x``, ``1/x``, ``|x|`` and ``\\log x`` are expressions still to be solved for x.
    """
    parts = node.parts
    match node.kind:
        case "words":
            return True
        case "symbol":
            return bool(node.symbols)
        case "call" if node.name == "abs":
            return parts[0].kind == "symbol" and parts[0].name[:1].isupper()
        case "call":
            return node.name in ("f()", "g()") or (node.name in _LABEL_CALLS and all(map(is_label, parts)))
        case "sum":
            return all(is_label(_without_factor(part, number(-1))) for part in parts)
        case "product":
            named = [part for part in parts if is_label(part)]
            return bool(named) and all(part in named or _is_divisor(part) for part in parts)
        case "power" | "group" | "ratio":
            return all(map(is_label, parts))
    return False


def _is_divisor(node: Node) -> bool:
    return node.kind == "power" and node.parts[1] == number(-1) and is_label(node.parts[0])


def _without_factor(node: Node, factor: Node) -> Node:
    if node.kind != "product" or node.parts[0] != factor or len(node.parts) < 2:
        return node
    return node.parts[1] if len(node.parts) == 2 else Node("product", node.parts[1:])


def _is_variable(node: Node) -> bool:
    """Whether an inequality of ``node`` bounds an interval: a label, or the absolute value of one."""
    return is_label(node) or (node.kind == "call" and node.name == "abs" and is_label(node.parts[0]))


def split_assignment(node: Node) -> tuple[Node, Node] | None:
    """Label and value of ``x = 5``, ``5 = x`` and ``x = 2 + 3 = 5``; None for anything else."""
    if node.kind != "relation" or set(node.name.split()) != {"="}:
        return None
    first, last = node.parts[0], node.parts[-1]
    if first == last:
        return None
    if is_label(first):
        zero = last == number(0)
        return None if zero and first.kind in ("sum", "ratio") else (first, last)
    if len(node.parts) == 2 and last.kind == "symbol" and is_label(last):
        return last, first
    return None


def shape(node: Node) -> Node:
    """``node`` in its one shape; what has several keeps its own."""
    if node.kind == "list":
        both = _both_rays(node) if node.name == "and" else None
        return both or _shape_list([shape(part) for part in _share_label(node.parts)])
    if node.kind == "relation":
        return _shape_relation(node)
    if node.kind in ("union", "group", "set", "minus"):
        return _shape_set(Node(node.kind, tuple(_spread(node.parts, node.kind)), node.name))
    if node == symbol("set:R"):
        return LINE
    values = _signs(node)
    return values[0] if len(values) == 1 else Node("list", tuple(values))


def _share_label(parts: tuple[Node, ...]) -> tuple[Node, ...]:
    """``n = 2, 3, 4`` and ``x = 2, x = 3`` without their label; two labels stay."""
    assignments = [split_assignment(part) for part in parts]
    labels = {pair[0] for pair in assignments if pair is not None}
    if len(labels) != 1 or assignments[0] is None:
        return parts
    return tuple(pair[1] if pair is not None else part for pair, part in zip(assignments, parts, strict=True))


def _both_rays(node: Node) -> Node | None:
    """The interval of ``x > 1 and x < 3``, empty where no x is both; None for anything but two inequalities of one
    symbol, one from above and one from below."""
    if len(node.parts) != 2 or any(part.kind != "relation" or len(part.parts) != 2 for part in node.parts):
        return None
    rays = [shape(part) for part in node.parts]
    if any(ray.kind != "group" for ray in rays) or node.parts[0].symbols != node.parts[1].symbols:
        return None
    if rays[0].parts[-1] != INFINITY:
        rays.reverse()
    low, high = rays[0].parts[0], rays[1].parts[-1]
    if is_endless(low) or is_endless(high):
        return None
    if low.kind == high.kind == "number" and low.value > high.value:
        return Node("set")
    return Node("group", (low, high), rays[0].name[0] + rays[1].name[-1])


def _shape_list(parts: list[Node]) -> Node:
    flat = [item for part in parts for item in (part.parts if part.kind == "list" else (part,))]
    if all(part.kind == "group" and (is_endless(part.parts[0]) or is_endless(part.parts[-1])) for part in flat):
        return _shape_set(Node("union", tuple(flat)))
    return Node("list", tuple(flat))


def _shape_relation(node: Node) -> Node:
    signs = node.name.split()
    if signs == ["in"]:
        return shape(node.parts[1])
    if signs == ["!="] and is_label(node.parts[0]):
        return Node("minus", (LINE, Node("set", (node.parts[1],))))
    assignment = split_assignment(node)
    if assignment is not None and len(node.parts) == 2:
        values = shape(assignment[1])
        if values.kind == "list":
            return values
        return Node("relation", (assignment[0], values), "=")
    return _interval(list(node.parts), signs) or node


def _interval(sides: list[Node], signs: list[str]) -> Node | None:
    """The interval of ``a < x <= b``, ``x > a``, and the two of ``a <= |x| <= b``; None for other relations."""
    if len(sides) > 3 or not all(sign in _FLIPPED for sign in signs):
        return None
    if signs[0] in (">", ">="):
        sides, signs = sides[::-1], [_FLIPPED[sign] for sign in signs[::-1]]
    if any(sign in (">", ">=") for sign in signs):
        return None
    place = 1 if len(sides) == 3 else 0 if _is_variable(sides[0]) and not _is_variable(sides[1]) else 1
    variable = sides[place]
    if (
        variable.kind not in ("symbol", "call")
        or not _is_variable(variable)
        or (len(sides) == 2 and is_label(sides[1 - place]))
    ):
        return None
    low = (sides[place - 1], signs[place - 1]) if place else (negative(INFINITY), "<")
    high = (sides[place + 1], signs[place]) if place + 1 < len(sides) else (INFINITY, "<")
    if variable.kind == "call" and variable.name == "abs":
        return _absolute(low, high)
    return _bounded(low, high)


def _bounded(low: tuple[Node, str], high: tuple[Node, str]) -> Node:
    brackets = ("[" if low[1] == "<=" else "(") + ("]" if high[1] == "<=" else ")")
    return Node("group", (low[0], high[0]), brackets)


def _absolute(low: tuple[Node, str], high: tuple[Node, str]) -> Node:
    if low[0] == negative(INFINITY):
        return _bounded((negative(high[0]), high[1]), high)
    mirrored = _bounded((negative(high[0]), high[1]), (negative(low[0]), low[1]))
    return Node("union", (mirrored, _bounded(low, high)))


def _shape_set(node: Node) -> Node:
    """Two rays that meet in a point are the line without it."""
    parts = tuple(LINE if part == symbol("set:R") else part for part in node.parts)
    if node.kind != "union" or len(parts) != 2 or any(part.kind != "group" or part.name != "()" for part in parts):
        return Node(node.kind, parts, node.name)
    for left, right in (parts, parts[::-1]):
        rays = left.parts[0] == negative(INFINITY) and right.parts[-1] == INFINITY
        if rays and left.parts[-1] == right.parts[0]:
            return Node("minus", (LINE, Node("set", (right.parts[0],))))
    return Node("union", parts)


def _spread(parts: tuple[Node, ...], kind: str) -> list[Node]:
    """Parts in shape; in a set, plus-minus gives two elements."""
    shaped = [shape(part) for part in parts]
    if kind != "set":
        return shaped
    return [item for part in shaped for item in (part.parts if part.kind == "list" else (part,))]


def _signs(node: Node) -> list[Node]:
    """The values of an expression with plus-minus: all upper signs, then all lower."""
    if not node.has("plus_minus"):
        return [node]
    return [_with_sign(node, 1), _with_sign(node, -1)]


def _with_sign(node: Node, sign: int) -> Node:
    if node.kind == "plus_minus":
        inner = _with_sign(node.parts[0], sign)
        return inner if (node.name == "+") == (sign > 0) else negative(inner)
    if not node.parts:
        return node
    return Node(node.kind, tuple(_with_sign(part, sign) for part in node.parts), node.name, node.value)
