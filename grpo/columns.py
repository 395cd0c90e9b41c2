"""From a row's columns to a problem: which column is the question, which the reference, why a row cannot be used."""

import re
from collections.abc import Mapping, Sequence

from grpo.datatypes import Problem
from grpo.errors import DataError, did_you_mean
from grpo.recipe import DataSource
from grpo.sources import Row, Table


class ColumnMap:
    """What a source's ``question``, ``reference`` and ``reference_pattern`` make of its rows.

    A column's name may go on into mappings: ``reward_model.ground_truth``. A question may be a text, a number, or a
    conversation: a list of messages with ``role`` and ``content``, of which the user's is the question, under the
    system's where there is one. A conversation that has gone on cannot be asked as one question.

    Raises:
        DataError: the table has no such column, or the pattern is no regular expression with a group.
    """

    def __init__(self, source: DataSource, table: Table, *, key: str) -> None:
        self._source = source
        self._table = table
        for name in ("question", "reference"):
            _check_column(getattr(source, name), table, f"{key}.{name}", source.path)
        self._pattern = _compile(source.reference_pattern, key)

    def problem(self, number: int, row: Row) -> tuple[Problem, str | None]:
        """Row ``number`` as a problem, and why it cannot be used, if so."""
        source, table = self._source, self._table
        question, reason = _question_of(row, source.question)
        reference, reference_reason = _text_of(row, source.reference)
        if self._pattern is not None and reference_reason is None:
            match = self._pattern.search(reference)
            reference = (match.group(1) or "").strip() if match else ""
            if not reference:
                reference_reason = f"column '{source.reference}' does not match {self._pattern.pattern!r}"
        problem = Problem(  # every column stays: reward functions ask for them by the data's own names
            problem_id=f"{table.id_prefix}/{number}",
            question=question,
            reference=reference,
            source=table.source,
            columns=dict(row),
        )
        return problem, reason or reference_reason


def value_of(row: Row, column: str) -> object:
    """The value of a column, or of what a dotted name leads to inside one; None where there is none.

    >>> value_of({"reward_model": {"ground_truth": "4"}}, "reward_model.ground_truth")
    '4'
    """
    if column in row:
        return row[column]
    value: object = row
    for part in column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _check_column(column: str, table: Table, key: str, path: str) -> None:
    if column in table.columns:
        return
    if "." in column and any(value_of(row, column) is not None for row in table.rows):
        return
    hint = did_you_mean(column, table.columns, f"Set {key} to one of them.")
    raise DataError(f"{key} = {column!r}: {path!r} has the columns {', '.join(table.columns)}. {hint}")


def _compile(pattern: str | None, key: str) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"{key}.reference_pattern = {pattern!r}: not a regular expression ({error}). Mend it") from None
    if not compiled.groups:
        raise DataError(
            f"{key}.reference_pattern = {pattern!r}: its first group is the reference, and it has none. "
            "Put brackets around the part to keep, as in '#### (.*)'"
        )
    return compiled


def _question_of(row: Row, column: str) -> tuple[str, str | None]:
    value = value_of(row, column)
    if isinstance(value, list | tuple) and value and all(isinstance(turn, Mapping) for turn in value):
        return _only_question(value, column)
    return _text_of(row, column)


def _only_question(turns: Sequence[Mapping[str, object]], column: str) -> tuple[str, str | None]:
    """The text of a conversation of one question, under a system message perhaps."""
    roles = [turn.get("role") for turn in turns]
    if roles not in (["user"], ["system", "user"]):
        shown = ", ".join(str(role) for role in roles)
        return "", f"column '{column}' is a conversation of {shown}: one user message is needed, after system at most"
    contents = [turn.get("content") for turn in turns]
    texts = [content.strip() for content in contents if isinstance(content, str)]
    if len(texts) < len(contents) or not texts[-1]:
        return "", f"column '{column}' has a message without a text"
    return _whole("\n\n".join(filter(None, texts)), column)


def _whole(text: str, column: str) -> tuple[str, str | None]:
    """JSON can write half of a character that takes two (a lone surrogate), which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "", f"column '{column}' holds half a character (a lone surrogate)"
    return text, None


def _text_of(row: Row, column: str) -> tuple[str, str | None]:
    value = value_of(row, column)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = str(value)
        return _whole(text, column) if text.strip() else ("", f"column '{column}' is empty")
    return "", f"column '{column}' is {'empty' if value is None else f'a {type(value).__name__}, not a text'}"
