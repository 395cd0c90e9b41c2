r"""Reads one operand: a number, a name, a function with its argument, brackets, a set, a matrix."""

import re
from fractions import Fraction

from rewards.math_numeral import DIGIT_RUN, NumeralReader
from rewards.math_scanner import ForeignError, NotReadableError
from rewards.math_tree import Node, number, quotient, symbol

_PLAIN_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_NAME = re.compile(r"[A-Za-z]+")
_TEXT = re.compile(r"\\text ?\{([^{}]*)\}")
_ONE = re.compile(r" ?([0-9])")
_INDEX = re.compile(r"\[ ?([0-9]{1,3}) ?\]")
_MATRIX = re.compile(r"\\begin ?\{([pbBvV]?matrix|array)\}(?: ?\{[lcr| ]*\})?")
_ROW_END = re.compile(r"\\\\(?:\[[^\]]{0,8}\])?")
_MAX_CELLS = 400
_SAME_NAMES = "sin cos tan sec csc cot sinh cosh tanh exp ln gcd lcm max min floor"
_FUNCTIONS = {
    **{name: name for name in _SAME_NAMES.split()},
    **{f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan")},
    **{name: name for name in ("asin", "acos", "atan", "abs", "cbrt", "sqrt", "log")},
    **{"ceil": "ceiling", "Re": "re", "Im": "im", "tg": "tan", "ctg": "cot", "det": "det", "Gamma": "gamma"},
}
_INVERSE = {"sin": "asin", "cos": "acos", "tan": "atan"}
_GREEK_TEXT = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Delta Theta Lambda Sigma Phi Psi Omega Pi ell hbar triangle angle circ"
)
_GREEK = frozenset(_GREEK_TEXT.split())
_PLAIN_GREEK_TEXT = "alpha beta theta lambda sigma omega phi"
_PLAIN_GREEK = frozenset(_PLAIN_GREEK_TEXT.split())
_NO_PRODUCTS_TEXT = (
    "the is are or and not but to of in if it as at be by for so no yes can may was has all any one two six ten you "
    "my we he she its out put mod her his him let now how who why did does got get say see use via per non nor "
    "cm mm km ft kg mi hr min day oz lb ml gal"
)
_NO_PRODUCTS = frozenset(_NO_PRODUCTS_TEXT.split())
_BRACKETS = {"(": ")", "[": "]"}


class OperandReader(NumeralReader):
    """``sum`` and ``relation`` are what an operand may hold within its brackets: the grammar defines them."""

    def sum(self) -> Node:
        raise NotImplementedError

    def relation(self) -> Node:
        raise NotImplementedError

    def power(self) -> Node:
        raise NotImplementedError

    def items(self) -> tuple[Node, ...]:
        raise NotImplementedError

    def implicit_run(self) -> Node:
        raise NotImplementedError

    def primary(self) -> Node:
        character = self.next_character()
        if character.isdigit() or character == ".":
            return self.numeral()
        if character in _BRACKETS:
            return self._group()
        if character.isascii() and character.isalpha():
            return self._name()
        if character == "{":
            self.at += 1
            return self.bracketed(self.sum, "}")
        if character == "|" and self.bars == 0:
            return self._absolute()
        if self.accept("\\{"):
            return self._set()
        if character == "\\":
            return self._named()
        raise NotReadableError(f"{self.ahead()!r} is no operand")

    # Names and functions

    def _name(self) -> Node:
        match = self.take(_NAME)
        assert match is not None
        name = match.group()
        if name == "pi":
            return symbol("pi")
        if name in _FUNCTIONS:
            return self._call(_FUNCTIONS[name])
        if name in ("inf", "infty", "infinity", "Infinity", "oo"):
            return symbol("infinity")
        if name in _PLAIN_GREEK:
            return symbol(name + self._suffix())
        if len(name) > 1 and (len(name) > 3 or name.lower() in _NO_PRODUCTS):
            split = self._split(name)
            if split is None:
                raise NotReadableError(f"{name!r} is a word")
            return split
        if name in ("f", "g") and self.text.startswith("(", self.at):
            return Node("call", self._group().parts, f"{name}()")
        self.at = match.start() + 1
        return symbol(name[0] + (self._suffix() if len(name) == 1 else ""))

    def _split(self, name: str) -> Node | None:
        """``sqrtx`` and ``sinx`` and ``pir``: a known name that runs into the next."""
        for known in ("sqrt", "sin", "cos", "tan", "ln"):
            if name.startswith(known) and len(name) <= len(known) + 1:
                self.at -= len(name) - len(known)
                return self._call(known)
        return None

    def _suffix(self) -> str:
        """Subscript and primes of a symbol."""
        subscript = self.subscript()
        primes = ""
        while self.text.startswith("'", self.at):
            primes += "'"
            self.at += 1
        return (f"_{subscript}" if subscript else "") + primes

    def _named(self) -> Node:
        name = self.command()
        if name == "begin":
            return self._matrix()
        if name == "text":
            return self._words()
        self.take_command()
        if name == "pi":
            return symbol("pi")
        if name == "infty":
            return symbol("infinity")
        if name == "frac":
            return quotient(self._argument(), self._argument())
        if name == "binom":
            return Node("call", (self._argument(), self._argument()), "binomial")
        if name == "sqrt":
            return self._root()
        if name in _FUNCTIONS:
            return self._call(_FUNCTIONS[name])
        if name in _GREEK:
            return symbol(name + self._suffix())
        if name in ("lfloor", "lceil"):
            return self._rounded(name)
        if name in ("sum", "prod"):
            return self._summation("summation" if name == "sum" else "multiplication")
        if name in ("ldots", "emptyset"):
            return Node("set") if name == "emptyset" else Node("ellipsis")
        if name in ("overline", "vec", "hat", "bar", "overrightarrow"):
            return symbol(f"{name}:{self._braced_text()}")
        if name == "mathbb":
            return symbol(f"set:{self._braced_text()}")
        if name:
            raise ForeignError(f"\\{name} is not in the grammar")
        raise NotReadableError(f"{self.ahead()!r} is no operand")

    def _words(self) -> Node:
        match = self.take(_TEXT)
        if match is None:
            raise NotReadableError("text that is not closed")
        words = match.group(1).strip()
        if words in _FUNCTIONS:
            return self._call(_FUNCTIONS[words])
        if words.casefold() in ("infinity", "infty"):
            return symbol("infinity")
        if DIGIT_RUN.fullmatch(words):
            return number(int(words))
        if len(words) == 1 and words.isalpha():
            return symbol(words + self._suffix())
        return Node("words", name=words.casefold())

    def _braced_text(self) -> str:
        match = self.take(re.compile(r"\{([A-Za-z0-9 ]{1,20})\}|([A-Za-z0-9])"))
        if match is None:
            raise NotReadableError(f"{self.ahead()!r} is no name")
        return (match.group(1) or match.group(2)).strip()

    def _argument(self) -> Node:
        r"""Of ``\frac`` and its like: braces, or one digit or letter or command."""
        if self.accept("{"):
            return self.bracketed(self.sum, "}")
        digit = self.take(_ONE)
        if digit is not None:
            return number(int(digit.group(1)))
        if self.next_character().isalpha():
            self.at += 1
            return symbol(self.text[self.at - 1])
        with self.deeper():
            return self.primary()

    def _root(self) -> Node:
        index = self.take(_INDEX)
        degree = int(index.group(1)) if index else 2
        if degree == 0:
            raise NotReadableError("a root of degree 0")
        return Node("power", (self._radicand(), number(Fraction(1, degree))))

    def _radicand(self) -> Node:
        r"""Brackets, else one token, as it is typeset: ``\sqrt3\pi`` is a multiple of pi. A run of digits is one."""
        if self.sees("(", "[", "{"):
            return self._call_arguments()[0]
        run = self.take(_PLAIN_NUMBER)
        if run is not None:
            return number(Fraction(run.group()))
        with self.deeper():
            return self.primary()

    def _call(self, name: str) -> Node:
        if name == "sqrt":
            return self._root()
        if name == "cbrt":
            return Node("power", (self._radicand(), number(Fraction(1, 3))))
        base = self._log_base() if name == "log" else None
        exponent = self._call_exponent() if name != "log" and self.accept("^") else None
        if exponent == number(-1):
            name, exponent = _INVERSE.get(name, ""), None
        if not name:
            raise NotReadableError("an inverse of that function")
        arguments = self._call_arguments()
        if name == "exp":
            value = Node("power", (symbol("e"), arguments[0]))
        elif base is not None:
            value = quotient(Node("call", arguments, "ln"), Node("call", (base,), "ln"))
        else:
            value = Node("call", arguments, name)
        return value if exponent is None else Node("power", (value, exponent))

    def _log_base(self) -> Node | None:
        if not self.accept("_"):
            return None
        if self.accept("{"):
            return self.bracketed(self.sum, "}")
        run = self.take(DIGIT_RUN)
        return number(int(run.group())) if run else self._argument()

    def _call_exponent(self) -> Node:
        with self.deeper():
            if self.accept("{"):
                return self.bracketed(self.sum, "}")
            run = self.take(re.compile("-?[0-9]+"))
            return number(int(run.group())) if run else self._argument()

    def _call_arguments(self) -> tuple[Node, ...]:
        with self.deeper():
            if self.accept("("):
                return self.bracketed(self.items, ")")
            if self.accept("["):
                return self.bracketed(self.items, "]")
            if self.accept("{"):
                return self.bracketed(self.items, "}")
            return (self.implicit_run(),)

    def _summation(self, name: str) -> Node:
        """``\\sum_{k=1}^{n} body``: name and bounds of the index, then the product that follows."""
        start = self.take(re.compile(r"_ ?\{ ?([A-Za-z]) ?="))
        if start is None:
            raise ForeignError("a sum without an index")
        low = self.bracketed(self.sum, "}")
        self.expect("^")
        high = self.bracketed(self.sum, "}") if self.accept("{") else self._argument()
        with self.deeper():
            body = self.implicit_run()
        if symbol("infinity") in (low, high):
            raise ForeignError("an infinite sum")
        return Node("call", (symbol(start.group(1)), low, high, body), name)

    # Brackets

    def _group(self) -> Node:
        opening = self.text[self.at]
        self.at += 1
        with self.deeper():
            self.brackets += 1
            bars, self.bars = self.bars, 0
            items = self.items()
            closing = self.next_character()
            if not closing or closing not in ")]":
                raise NotReadableError(f"a closing bracket is missing before {self.ahead()!r}")
            self.at += 1
            self.bars = bars
            self.brackets -= 1
        if len(items) == 1 and closing == _BRACKETS[opening]:
            if items[0].kind == "number" and self.text.startswith("_", self.at):
                return Node("based", name=self.base(), value=items[0].value)
            return items[0]
        return Node("group", items, opening + closing)

    def _absolute(self) -> Node:
        self.at += 1
        with self.deeper():
            self.bars += 1
            value = self.sum()
            self.expect("|")
            self.bars -= 1
        return Node("call", (value,), "abs")

    def _rounded(self, name: str) -> Node:
        closing = "\\rfloor" if name == "lfloor" else "\\rceil"
        return Node("call", (self.bracketed(self.sum, closing),), "floor" if name == "lfloor" else "ceiling")

    def _set(self) -> Node:
        return Node("set", self.bracketed(lambda: () if self.sees("\\}") else self.items(), "\\}"))

    def _matrix(self) -> Node:
        match = self.take(_MATRIX)
        if match is None:
            raise ForeignError("an environment that is no matrix")
        rows: list[Node] = []
        cells: list[Node] = []
        num_cells = 0
        with self.deeper():
            self.brackets += 1
            while not self.sees("\\end"):
                cells.append(self.sum())
                num_cells += 1
                if num_cells > _MAX_CELLS:
                    raise NotReadableError(f"more than {_MAX_CELLS} cells")
                if self.accept("&"):
                    continue
                rows.append(Node("row", tuple(cells)))
                cells = []
                if not self.take(_ROW_END):
                    break
            self.brackets -= 1
        self.expect("\\end")
        self.skip()
        self.expect("{" + match.group(1) + "}")
        matrix = Node("matrix", tuple(rows))
        return Node("call", (matrix,), "det") if match.group(1)[0] in "vV" else matrix
