"""``docs/from_trl.md`` and ``docs/from_verl.md``, made of the tables."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from grpo.peers.mapping import Peer, Row
from grpo.peers.translation import translate
from grpo.recipe.describe import default_of, is_required

SUFFIXES = {"trl": "yaml", "verl": "sh"}


def peer_document(peer: Peer) -> str:
    """The whole page of one peer."""
    return "\n".join(_lines(peer)) + "\n"


def _lines(peer: Peer) -> Iterator[str]:
    suffix = SUFFIXES[peer.name]
    yield f"# From {peer.title}"
    yield ""
    yield f"`grpo import {peer.name} CONFIG.{suffix}` prints a recipe, and says on stderr what became of each"
    yield "key. This page is made by `make docs` from the table that it goes by, of"
    yield f"{peer.title} {peer.version}: `grpo/peers/{peer.name}.py`."
    yield ""
    yield f"One configuration, there and here; what {peer.title} does unless told is written out:"
    yield ""
    yield from (f"    {line}" for line in peer.example.splitlines())
    yield ""
    yield "becomes"
    yield ""
    yield from (f"    {line}".rstrip() for line in _translated(peer).splitlines()[1:])
    yield from _table("Translated", "key here", [row for row in peer.rows if row.what_becomes == "translated"])
    yield from _table("No counterpart", "", [row for row in peer.rows if row.what_becomes == "lost"])
    yield from _table("Not needed", "", [row for row in peer.rows if row.what_becomes == "needless"])


def _translated(peer: Peer) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"example.{SUFFIXES[peer.name]}"
        file.write_text(peer.example, encoding="utf-8")
        return translate(peer, file).text


def _table(title: str, ours: str, rows: list[Row]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    if ours:
        yield "| key there | default | key here | default | |"
        yield "|---|---|---|---|---|"
        yield from (
            f"| `{row.key}` | {_code(row.default)} | `{row.ours}` | {_our_default(row.ours or '')} | {row.sentence} |"
            for row in rows
        )
        return
    yield "| keys | |"
    yield "|---|---|"
    for sentence in dict.fromkeys(row.sentence for row in rows):
        yield f"| {', '.join(f'`{row.key}`' for row in rows if row.sentence == sentence)} | {sentence} |"


def _our_default(key: str) -> str:
    try:
        return "required" if is_required(key) else _code(default_of(key))
    except KeyError:
        return ""  # a section


def _code(value: object) -> str:
    return f"`{json.dumps(value)}`"
