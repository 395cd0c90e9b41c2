"""A recipe's ``filter``: an expression over the columns of a row, evaluated without running it as a program.

simpleeval walks the expression's tree and knows names, numbers, texts, comparisons, arithmetic and a few functions; it
bounds powers and lengths. Nothing random is among the functions: the same rows pass in every run.
"""

import ast
from collections.abc import Callable, Mapping, Sequence

from simpleeval import EvalWithCompoundTypes, InvalidExpression

from grpo.errors import DataError, did_you_mean

FUNCTIONS: Mapping[str, Callable[..., object]] = {
    function.__name__: function for function in (abs, bool, float, int, len, max, min, round, str, sum)
}
_OF_A_ROW = (  # what an expression raises where a row does not suit it
    InvalidExpression,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


class RowFilter:
    """Says of each row whether it passes.

    >>> RowFilter("len(question) < 9 and level >= 3", key="data.train").passes({"question": "1+1?", "level": 5}, "0")
    True

    Args:
        expression: over columns by their names; a column with another kind of name cannot be asked for.
        key: the recipe section that errors name.

    Raises:
        DataError: it is no expression.
    """

    def __init__(self, expression: str, *, key: str) -> None:
        self.expression = expression
        self._where = f"{key}.filter = {expression!r}"
        try:
            self._tree = ast.parse(expression.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nested too deeply
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise DataError(
                f"{self._where}: not an expression ({reason}). Write a comparison of columns, such as "
                "len(question) < 400 and level >= 3"
            ) from None
        self._evaluator = EvalWithCompoundTypes(functions=dict(FUNCTIONS))

    def check_columns(self, columns: Sequence[str]) -> None:
        """Refuse a name that is no column of the data, also where no row would come to ask for it.

        Raises:
            DataError: such a name; the message has the columns and the nearest.
        """
        names = [node for node in ast.walk(self._tree) if isinstance(node, ast.Name)]
        bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        for name in (node.id for node in names):
            if name in columns or name in bound or name in FUNCTIONS:
                continue
            hint = did_you_mean(name, [*columns, *FUNCTIONS], "Name one of them.")
            raise DataError(f"{self._where}: there is no column '{name}'; there are {', '.join(columns)}. {hint}")

    def passes(self, row: Mapping[str, object], name: str) -> bool:
        """Whether the expression is true of ``row``; ``name`` tells the row in messages.

        Raises:
            DataError: it cannot be evaluated on this row, or is neither true nor false of it.
        """
        self._evaluator.names = dict(row)
        try:
            value = self._evaluator.eval(self.expression, previously_parsed=self._tree)
        except _OF_A_ROW as error:
            raise DataError(
                f"{self._where}: row {name} cannot be asked it: {type(error).__name__}: {error}. "
                "Mend the expression; where a column may be empty, ask first, as in level is not None and level >= 3"
            ) from None
        if not isinstance(value, bool):
            raise DataError(
                f"{self._where}: of row {name} it is {value!r}, neither true nor false. Write a comparison, such as "
                "len(question) < 400"
            )
        return value
