"""What became of a peer's configuration, key by key: for people, in 80 columns, and as an object for programs."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from grpo.peers.translation import Entry, Kind, Translation

HEADINGS: dict[Kind, str] = {
    "translated": "translated",
    "implied": "not given, but {title}'s defaults are not ours",
    "default": "left out: so anyway, or without effect beside the other keys",
    "needless": "left out: nothing here needs it",
    "lost": "no counterpart",
    "unknown": "not known",
    "added": "added, because a recipe needs it; look it over",
}
SHORTEST = 60  # characters of a value that are shown, where the line has room
WIDTH = 80
INDENT = len("    -> ")
MARK = 8
UNBROKEN = "\N{NO-BREAK SPACE}"  # within a key and its value


def report_lines(done: Translation) -> Iterator[str]:
    """A paragraph for each kind of end that a key may come to; keys that came to the same one stand together."""
    for kind, heading in HEADINGS.items():
        entries = [entry for entry in done.entries if entry.kind == kind]
        if not entries:
            continue
        yield f"{heading.format(title=done.peer.title)} ({len({entry.key or entry.ours for entry in entries})}):"
        for together in _by_end(entries):
            yield from _lines(together)
        yield ""
    verdict = f" once this is mended: {done.refusal}" if done.refusal else ""
    yield from _wrapped(f"`grpo check` takes the recipe{verdict}", indent="")


def to_json(done: Translation) -> dict[str, Any]:
    """``recipe`` (its text), ``keys`` (what became of each) and ``refusal`` (empty, or why check refuses it)."""
    keys = [
        {name: getattr(entry, name) for name in ("kind", "key", "value", "ours", "our_value", "sentence")}
        for entry in done.entries
    ]
    return {"peer": done.peer.name, "recipe": done.text, "keys": keys, "refusal": done.refusal}


def _by_end(entries: list[Entry]) -> list[list[Entry]]:
    """Entries with the same key of ours, value and sentence: of what is left out, those with the same sentence."""
    ends: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        left_out = entry.kind not in ("translated", "implied", "added")
        sentence = "" if entry.kind == "default" else entry.sentence
        end = ("", "", sentence) if left_out else (entry.ours or "", json.dumps(entry.our_value, default=str), sentence)
        ends.setdefault(end, []).append(entry)
    return list(ends.values())


def _lines(entries: list[Entry]) -> Iterator[str]:
    """Their keys, what they are here, and why, each a step further in."""
    first = entries[0]
    if first.kind == "added":
        yield f"  {_pair(first.ours or '', first.our_value)}"
    else:
        given = dict.fromkeys(_pair(entry.key, entry.value) for entry in entries)
        yield from _wrapped(", ".join(item.replace(" ", UNBROKEN) for item in given), indent="  ")
    if first.kind in ("translated", "implied"):
        yield from (f"    -> {line}" for line in _ours(first))
    if first.kind != "default":
        yield from _wrapped(first.sentence, indent="       ")


def _ours(entry: Entry) -> Iterator[str]:
    """What a key sets: its own of several, where it has one; below a section, all of them."""
    value, ours = entry.our_value, entry.ours or ""
    if isinstance(value, dict) and ours in value:
        value = value[ours]
    elif isinstance(value, dict) and any(key.startswith(f"{ours}.") for key in value):
        yield from (_pair(key, each) for key, each in value.items())
        return
    yield _pair(ours, value)


def _wrapped(text: str, *, indent: str) -> list[str]:
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(UNBROKEN, " ") for line in lines]


def _pair(key: str, value: Any) -> str:
    """A key and its value, cut where the line ends; a few characters of it are shown even so."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    room = max(MARK, min(SHORTEST, WIDTH - INDENT - len(f"{key} = ,")))
    return f"{key} = {text if len(text) <= room else text[: room - 3] + '...'}"
