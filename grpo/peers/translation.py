"""A peer's settings, by its table, into the keys of a recipe that loads; and what became of each key."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from grpo.check import report
from grpo.errors import RecipeError, UserError
from grpo.peers.mapping import NoCounterpartError, Noted, Peer, Row, Settings, Values
from grpo.peers.recipe_text import recipe_text
from grpo.recipe import parse_recipe
from grpo.recipe.describe import default_of, is_required

# what a conversion comes to on a value of a kind that the peer would not take either
_FAILURES = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError)
Kind = Literal["translated", "default", "implied", "needless", "lost", "unknown", "added"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What became of one key.

    ``translated``: to ``ours``. ``default``: left out, because it says what is so anyway, or has no effect beside the
    other keys. ``implied``: not given, but the peer's default is not ours. ``needless``: nothing here needs it.
    ``lost``: no counterpart. ``unknown``: in no table. ``added``: a key that a recipe needs and the peer's
    configuration does not have.
    """

    kind: Kind
    key: str
    value: Any
    ours: str | None = None
    our_value: Any = None
    sentence: str = ""


@dataclass(slots=True)
class Translation:
    """A recipe, as text that loads, and an entry for each key of the configuration that it came of.

    Attributes:
        refusal: why ``grpo check`` refuses the recipe on this machine: a file or folder that is elsewhere. Empty: it
            does not.
    """

    peer: Peer
    source: str
    entries: list[Entry] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    refusal: str = ""

    @property
    def text(self) -> str:
        return recipe_text(self.values, self.comments, source=self.source, title=self.peer.title)


def translate(peer: Peer, path: Path, *, num_processes: int = 1) -> Translation:
    """Translate the configuration in a file.

    Args:
        num_processes: of the peer's learner, where its launcher says that and not its configuration.

    Raises:
        UserError: the file is missing or is no configuration of that peer.
        RecipeError: what it says contradicts itself in a key that no recipe can do without.
    """
    given = peer.read(path)
    unset = {key: value for key, value in given.items() if _is_unset(peer, key, value)}
    given = {key: value for key, value in given.items() if key not in unset}
    settings = peer.settings(given, num_processes=num_processes, folder=path.parent)
    done = Translation(peer=peer, source=path.name)
    done.entries += [
        Entry(kind="unknown", key=key, value=value, sentence=f"not a key of {peer.title} {peer.version} that is known")
        for key, value in given.items()
        if not peer.rows_of(key)
    ]
    done.entries += [
        Entry(
            kind="unknown", key=key, value=value, sentence="a variable that is not set here, so its default was taken"
        )
        for key, value in unset.items()
    ]
    for row in _rows(peer, given):
        _apply(row, settings, done)
    done.entries[:] = _without_echoes(done.entries)
    for fill in peer.fills:
        value = None if fill.ours in done.values else fill.value(settings, done.values)
        if value is not None:
            done.values[fill.ours], done.comments[fill.ours] = value, fill.comment
            done.entries.append(
                Entry(kind="added", key="", value=None, ours=fill.ours, our_value=value, sentence=fill.comment)
            )
    _reconcile(done)
    return done


def _is_unset(peer: Peer, key: str, value: Any) -> bool:
    """Whether a variable of the shell stands where a number belongs."""
    rows = peer.rows_of(key)
    return isinstance(value, str) and "$" in value and bool(rows) and isinstance(rows[0].default, int | float)


def _without_echoes(entries: list[Entry]) -> Iterator[Entry]:
    """Of the peer's defaults, those alone that set a key of ours which no given key sets, and each such key once; and
    no key is told to be without effect that one of its rows translates."""
    said = {entry.ours for entry in entries if entry.kind == "translated"}
    translated = {entry.key for entry in entries if entry.kind == "translated"}
    for entry in entries:
        if (entry.kind == "implied" and entry.ours in said) or (entry.kind == "default" and entry.key in translated):
            continue
        if entry.kind == "implied":
            said.add(entry.ours)
        yield entry


def _rows(peer: Peer, given: Values) -> Iterator[Row]:
    """Every row of a single key, and for each given key below a name that stands for many, that name's."""
    for row in peer.rows:
        if not row.key.endswith(".*"):
            yield row
    for key in given:
        for row in peer.rows_of(key):
            if row.key != key:
                yield replace(row, key=key)


def _apply(row: Row, settings: Settings, done: Translation) -> None:
    given, value = row.key in settings.given, settings.given.get(row.key, row.default)
    if row.ours is None:
        if given and value == row.default:
            done.entries.append(Entry(kind="default", key=row.key, value=value, sentence="the default there"))
        elif given:
            kind: Kind = "needless" if row.needless else "lost"
            done.entries.append(Entry(kind=kind, key=row.key, value=value, sentence=row.sentence))
        return
    try:
        ours = row.convert(settings) if row.convert else value
    except UserError:
        raise
    except _FAILURES as error:
        raise UserError(
            f"key '{row.key}' of {done.source}, or one that it is reckoned with: {error}. Mend it"
        ) from error
    except NoCounterpartError as error:
        if given:
            done.entries.append(Entry(kind="lost", key=row.key, value=value, ours=row.ours, sentence=str(error)))
        return
    note = ours.note if isinstance(ours, Noted) else ""
    changed = dict(_changed(row.ours, ours.value if isinstance(ours, Noted) else ours))
    done.values |= changed
    if isinstance(ours, Noted):
        done.comments |= ours.comments
    sentence = " ".join(part for part in (row.sentence, note) if part)
    if changed and not given and not any(f"{key}.".startswith(f"{row.ours}.") for key in changed):
        return  # this default sets no key of its own: the others' rows say what they set
    if changed:
        kind = "translated" if given else "implied"
        shown = next(iter(changed.values())) if len(changed) == 1 else changed
        entry = Entry(kind=kind, key=row.key, value=value, ours=row.ours, our_value=shown, sentence=sentence)
        done.entries.append(entry)
    elif given:
        done.entries.append(Entry(kind="default", key=row.key, value=value, ours=row.ours, sentence=note))


def _changed(ours: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The keys that a value sets, or those of a mapping, without those that say what is so anyway."""
    for key, each in (value if isinstance(value, dict) else {ours: value}).items():
        if each is not None and (is_required(key) or each != default_of(key)):
            yield key, each


def _reconcile(done: Translation) -> None:
    """Leave out, and say so, what a recipe refuses; what only this machine lacks is told and stays."""
    while True:
        try:
            recipe = parse_recipe(done.text, source=done.source)
        except RecipeError as error:
            if not _may_go(done, error):
                raise
            _leave_out(done, error)
            continue
        try:
            report(recipe)
        except UserError as error:
            if isinstance(error, RecipeError) and _may_go(done, error):
                _leave_out(done, error)
                continue
            done.refusal = str(error)  # a file, a folder or a module that is on another machine
        return


def _may_go(done: Translation, error: RecipeError) -> bool:
    """Whether the key that is refused came of the configuration, and a recipe can do without."""
    key = _holder(done, error.key)
    return key in done.values and not is_required(key)


def _holder(done: Translation, key: str) -> str:
    """The key itself, or that of the mapping which it is an entry of, such as ``engine.args``."""
    holder = key.rpartition(".")[0]
    return holder if isinstance(done.values.get(holder), dict) else key


def _leave_out(done: Translation, error: RecipeError) -> None:
    """Take the refused key out of the recipe, and say so with each key of the peer's that it came of."""
    key = _holder(done, error.key)
    name = error.key.removeprefix(f"{key}.") if key != error.key else ""
    rest = {each: value for each, value in done.values[key].items() if each != name} if name else None
    if rest:
        done.values[key] = rest
    else:
        del done.values[key]
        done.comments.pop(key, None)
    reason = f"refused here, so left out: {error.allowed}. {error.fix}"
    for index, entry in enumerate(done.entries):
        if entry.ours != key:
            continue
        if rest and f".{name}." not in f".{entry.key}.":
            done.entries[index] = replace(entry, our_value=rest)
            continue
        kind: Kind = "lost" if entry.kind != "implied" else "default"
        done.entries[index] = replace(entry, kind=kind, our_value=None, sentence=reason)
