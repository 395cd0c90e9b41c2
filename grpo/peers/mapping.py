"""The form of a table: one row says what becomes of one key of a peer.

A key has as many rows as it sets keys of ours, and a key of ours may come of several: each such row computes it from
all the settings, so that they agree. A row without ``ours`` says why there is none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpo.errors import UserError

Values = Mapping[str, Any]


class NoCounterpartError(Exception):
    """A value that cannot be said in a recipe; the message says why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A value of ours with something to say about it, and comments on keys, which stand beside them in the recipe."""

    value: Any
    note: str
    comments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings(Mapping[str, Any]):
    """What a peer runs with: the keys that its configuration gives, over the peer's defaults.

    Attributes:
        num_processes: of the learner, where the configuration leaves that to a launcher.
        folder: what relative paths in the configuration are relative to.
    """

    given: Values
    defaults: Values
    num_processes: int = 1
    folder: Path = Path()

    def __getitem__(self, key: str) -> Any:
        return self.given[key] if key in self.given else self.defaults[key]

    def whole(self, key: str) -> int:
        """The value of a key that counts something; none counts nothing.

        Raises:
            UserError: it is no whole number.
        """
        value = self[key]
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise UserError(f"{key} = {value!r} of the configuration must be a whole number. Mend it")
        return int(value)

    def number(self, key: str) -> float:
        """The value of a key that measures something; none is 0.

        Raises:
            UserError: it is no number.
        """
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise UserError(f"{key} = {value!r} of the configuration must be a number. Mend it")
        return float(value or 0)

    def __iter__(self) -> Iterator[str]:
        return iter({**self.defaults, **self.given})

    def __len__(self) -> int:
        return len({**self.defaults, **self.given})


Convert = Callable[[Settings], Any]  # the value of ours, a Noted, or None to leave it out; raises NoCounterpartError


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What becomes of one key.

    Attributes:
        key: the peer's; one that ends in ``.*`` stands for all below it.
        ours: the dotted key or section of a recipe; None: there is none.
        default: the peer's own.
        sentence: what differs in meaning; without ``ours``, why there is none and what to do instead.
        convert: the value of ours, from all settings; None: the peer's value as it is.
        needless: without ``ours``: nothing is lost, because this trainer has no need of it.

    >>> Row(key="max_completion_length", ours="rollout.max_completion_length", default=512).what_becomes
    'translated'
    """

    key: str
    ours: str | None = None
    default: Any = None
    sentence: str = ""
    convert: Convert | None = None
    needless: bool = False

    @property
    def what_becomes(self) -> str:
        if self.ours is not None:
            return "translated"
        return "needless" if self.needless else "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """A key of ours that the peer's configuration cannot give, or did not.

    Attributes:
        value: from the settings and from the keys of ours set so far; None: nothing to fill in.
        comment: why that value; it stands beside it in the recipe.
    """

    ours: str
    value: Callable[[Settings, Values], Any]
    comment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another trainer: its table, and how its configurations are read.

    Attributes:
        version: of the peer, whose names and defaults the table has.
        read: the keys that a file gives; raises UserError where it holds none.
        example: a configuration of a few keys, for the document.
    """

    name: str
    title: str
    version: str
    rows: tuple[Row, ...]
    fills: tuple[Fill, ...]
    read: Callable[[Path], dict[str, Any]]
    example: str

    def rows_of(self, key: str) -> tuple[Row, ...]:
        """The rows of a key; of those for all keys below a name, the longest name's."""
        exact = tuple(row for row in self.rows if row.key == key)
        if exact:
            return exact
        around = [row for row in self.rows if row.key.endswith(".*") and f"{key}.".startswith(row.key[:-1])]
        return (max(around, key=lambda row: len(row.key)),) if around else ()

    def settings(self, given: Values, *, num_processes: int, folder: Path) -> Settings:
        defaults = {row.key: row.default for row in self.rows}
        return Settings(given=given, defaults=defaults, num_processes=num_processes, folder=folder)


def lost(sentence: str, **defaults: Any) -> tuple[Row, ...]:
    """Rows of keys without counterpart, with the peer's defaults; one reason for all."""
    return tuple(Row(key=key, default=default, sentence=sentence) for key, default in defaults.items())


def needless(sentence: str, defaults: Values | Sequence[str]) -> tuple[Row, ...]:
    """Rows of keys that this trainer has no need of; a list of names is of keys whose default is None."""
    pairs = defaults if isinstance(defaults, Mapping) else dict.fromkeys(defaults)
    return tuple(Row(key=key, default=value, sentence=sentence, needless=True) for key, value in pairs.items())
