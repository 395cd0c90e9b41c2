"""What the names in a suite's test code mean: the program's functions, its classes, modules, or the tests' own."""

import ast
import builtins
import re
import sys
from dataclasses import dataclass

from rewards.code_handle import VALUE_ATTRIBUTES
from rewards.code_program import before_entry_point
from rewards.code_suite import AssertSuite

_BUILTINS = frozenset(dir(builtins))
_DEFINED = re.compile(r"^(?:(?:async[ \t]+)?def|class)[ \t]+(\w+)|^(\w+)[ \t]*=(?!=)", re.MULTILINE)
_CLASS = re.compile(r"^class[ \t]+(\w+)", re.MULTILINE)
_CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*")
_EXPECTING = ("raises", "assertRaises", "assertRaisesRegex")  # their first argument is an exception's class


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """
    Attributes:
        program: every name that means something of the program's.
        classes: those of them that the tests use as classes, and so ask for objects of.
        errors: those of them that the tests catch.
        modules: names of the standard library that the tests use without importing them.
        helpers: code of the prompt that defines what the tests call beside the program; empty where they do not.
    """

    program: tuple[str, ...]
    classes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    helpers: str = ""


def read_names(suite: AssertSuite) -> Names:
    """
    Every name is the program's that the tests use and nothing of theirs defines. A builtin's name is one only where the
    reference program, or else the shape of the test, says so: a program that defines its own ``abs`` must not have
    the tests compare with it. What the prompt defines before the function that is to be written is the tests' own:
    a program may define it anew, but only for itself.

    >>> read_names(AssertSuite(tests=("assert math.isclose(area(2), 4)", "assert sum(1, 2) == 3"))).program
    ('area', 'sum')

    Raises:
        ValueError: the test code, or the part of the prompt that the tests need, is no Python.
    """
    pieces = [parsed(source, "the test code") for source in (suite.setup, *suite.tests)]
    nodes = [node for piece in pieces for node in ast.walk(piece)]
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    free = used - _defined_in_tests(nodes)
    helpers = before_entry_point(suite)
    helping = free & (_defined(helpers) - {suite.entry_point})
    if helping:
        parsed(helpers, f"the prompt, whose {', '.join(sorted(helping))} the tests call,")
    free -= helping
    own = _defined(f"{suite.prompt}\n{suite.reference}") | {suite.entry_point}
    names = (free - _BUILTINS) | (free & own)
    modules = {name for name in names & _bases(nodes) - own if name in sys.stdlib_module_names}
    names -= modules
    if not own - {""}:
        names |= {name for piece in pieces[1:] if (name := _outermost_builtin(piece, names))}
    return Names(
        program=tuple(sorted(names)),
        classes=tuple(sorted(_classes(suite, names, nodes))),
        errors=tuple(sorted(names & _caught(nodes))),
        modules=tuple(sorted(modules)),
        helpers=helpers if helping else "",
    )


def parsed(source: str, what: str) -> ast.Module:
    """Raises ValueError where it is no Python."""
    try:
        return ast.parse(source)
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"{what} is no Python: {error}") from error


def _defined(code: str) -> set[str]:
    return {one or other for one, other in _DEFINED.findall(code)}


def _bases(nodes: list[ast.AST]) -> set[str]:
    return {node.value.id for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}


def _classes(suite: AssertSuite, names: set[str], nodes: list[ast.AST]) -> set[str]:
    """As the reference or the prompt has it; without a reference, also as the tests use what is spelled as a class."""
    shown = names & set(_CLASS.findall(f"{suite.prompt}\n{suite.reference}"))
    if suite.reference:
        return shown
    spelled = {name for name in names if _CAMEL_CASE.fullmatch(name)}
    return shown | {name for name in spelled if _is_used_as_class(name, nodes)}


def _is_used_as_class(name: str, nodes: list[ast.AST]) -> bool:
    """Called without arguments, which a function under test has; or asked, it or what it makes, for what no value has.

    MBPP has functions named ``Extract``, whose results must not pass for objects that may answer as they like.
    """
    made = {name}
    for node in nodes:
        if isinstance(node, ast.Assign) and name in _called(node.value):
            made |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in nodes:
        match node:
            case ast.Call(func=ast.Name(id=called), args=[], keywords=[]) if called == name:
                return True
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, ast.Name(id=kind)]) if kind == name:
                return True
            case ast.Attribute(value=ast.Name(id=base), attr=attribute) if base in made:
                if attribute not in VALUE_ATTRIBUTES:
                    return True
            case ast.Attribute(value=ast.Call(func=ast.Name(id=called)), attr=attribute) if called == name:
                if attribute not in VALUE_ATTRIBUTES:
                    return True
    return False


def _called(expression: ast.expr) -> set[str]:
    calls = [node.func for node in ast.walk(expression) if isinstance(node, ast.Call)]
    return {function.id for function in calls if isinstance(function, ast.Name)}


def _caught(nodes: list[ast.AST]) -> set[str]:
    kinds: list[ast.AST] = []
    for node in nodes:
        match node:
            case ast.ExceptHandler(type=ast.expr() as kind):
                kinds.append(kind)
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[kind, *_]) if name in _EXPECTING:
                kinds.append(kind)
    return {node.id for kind in kinds for node in ast.walk(kind) if isinstance(node, ast.Name)}


def _defined_in_tests(nodes: list[ast.AST]) -> set[str]:
    defined: set[str] = set()
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                defined.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.ExceptHandler(name=str(name)):
                defined.add(name)
            case ast.alias(name=name, asname=given):
                defined.add(given or name.partition(".")[0])
    return defined


def _outermost_builtin(piece: ast.Module, names: set[str]) -> str | None:
    """The builtin's name that an assertion must mean the program's function by, for it calls nothing else."""
    called = [
        node.func.id for node in ast.walk(piece) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return called[0] if called and not names & set(called) else None
