"""Test code as it is run: each ``assert`` noted, each bare name of the program's looked up when it is used."""

import ast
from collections.abc import Collection
from typing import Any

CHECK, READ = "__check__", "__read__"


def instrumented(source: str, names: Collection[str]) -> ast.Module:
    """The code with every assertion in a ``with`` block of its own, and ``names`` asked of the program.

    An assertion within a ``try`` or a ``with`` block of the tests' may be meant to fail there: it is noted where it
    holds, and raises where it does not, as it would by itself. Every other is noted, and the test goes on.
    """
    tree = _Instrument(frozenset(names)).visit(ast.parse(source))
    assert isinstance(tree, ast.Module)
    return ast.fix_missing_locations(tree)


def num_asserts(tree: ast.Module) -> int:
    """Those that may say something of the program."""
    return sum(isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant) for node in ast.walk(tree))


class _Instrument(ast.NodeTransformer):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._num_guards = 0  # blocks around the present place that may catch what an assertion raises

    def visit_Assert(self, node: ast.Assert) -> ast.With:
        text = ast.unparse(node)
        self.generic_visit(node)
        check = ast.Call(ast.Name(CHECK, ast.Load()), [ast.Constant(text), ast.Constant(self._num_guards == 0)], [])
        return ast.With(items=[ast.withitem(context_expr=check)], body=[node])

    def visit_Try(self, node: ast.Try) -> ast.Try:
        self._num_guards += bool(node.handlers)
        node.body = self._visit_all(node.body)
        self._num_guards -= bool(node.handlers)
        for name in ("handlers", "orelse", "finalbody"):
            setattr(node, name, self._visit_all(getattr(node, name)))
        return node

    def visit_With(self, node: ast.With) -> ast.With:
        node.items = self._visit_all(node.items)
        self._num_guards += 1
        node.body = self._visit_all(node.body)
        self._num_guards -= 1
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        called = node.func
        self.generic_visit(node)
        if isinstance(called, ast.Name):  # a stand-in asks when it is called
            node.func = called
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        node.body = self._visit_all(node.body)  # its classes are no values of the program's
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self._names or not isinstance(node.ctx, ast.Load):
            return node
        return ast.Call(ast.Name(READ, ast.Load()), [ast.Constant(node.id)], [])

    def _visit_all(self, nodes: list[Any]) -> list[Any]:
        return [self.visit(node) for node in nodes]
