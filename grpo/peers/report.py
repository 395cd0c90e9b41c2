"""What became of a peer's configuration, key by key: for people, and as an object for programs."""

import json
from collections.abc import Iterator
from typing import Any

from grpo.peers.translation import Entry, Kind, Translation

HEADINGS: dict[Kind, str] = {
    "translated": "translated",
    "implied": "not given, but {title}'s defaults are not ours",
    "default": "left out: what is so anyway",
    "needless": "left out: nothing here needs it",
    "lost": "no counterpart",
    "unknown": "not known",
    "added": "added, because a recipe needs it; look it over",
}
SHORTEST = 60  # characters of a value that are shown


def report_lines(done: Translation) -> Iterator[str]:
    """A paragraph for each kind of end that a key may come to."""
    for kind, heading in HEADINGS.items():
        entries = [entry for entry in done.entries if entry.kind == kind]
        if not entries:
            continue
        yield f"{heading.format(title=done.peer.title)} ({len(entries)}):"
        if kind == "default":
            yield "  " + ", ".join(_given(entry) for entry in entries)
        else:
            yield from (f"  {_line(entry)}" for entry in entries)
    yield f"`grpo check` takes the recipe{' once this is mended: ' + done.refusal if done.refusal else ''}"


def to_json(done: Translation) -> dict[str, Any]:
    """``recipe`` (its text), ``keys`` (what became of each) and ``refusal`` (empty, or why check refuses it)."""
    keys = [
        {name: getattr(entry, name) for name in ("kind", "key", "value", "ours", "our_value", "sentence")}
        for entry in done.entries
    ]
    return {"peer": done.peer.name, "recipe": done.text, "keys": keys, "refusal": done.refusal}


def _line(entry: Entry) -> str:
    if entry.kind == "added":
        return f"{entry.ours} = {_shown(entry.our_value)}: {entry.sentence}"
    here = f" -> {entry.ours} = {_shown(entry.our_value)}" if entry.kind in ("translated", "implied") else ""
    return f"{_given(entry)}{here}{': ' + entry.sentence if entry.sentence else ''}"


def _given(entry: Entry) -> str:
    return f"{entry.key} = {_shown(entry.value)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= SHORTEST else f"{text[:SHORTEST]}..."
