"""One dataset of a peer's, or several, as ``data.train`` or ``data.held_out``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grpo.peers.mapping import Noted
from grpo.recipe import DataSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The keys of one source, and what stands beside it in the recipe."""

    keys: Mapping[str, Any]
    comment: str = ""


def data_keys(section: str, sources: Sequence[Source], *, note: str = "") -> Noted:
    """Dotted keys of the only source, or a list of several.

    >>> data_keys("data.train", [Source(keys={"path": "a/b", "subset": None})]).value
    {'data.train.path': 'a/b'}
    >>> data_keys("data.train", [Source(keys={"path": "a/b"}), Source(keys={"path": "c/d", "weight": 0.5})]).value
    {'data.train': [{'path': 'a/b'}, {'path': 'c/d', 'weight': 0.5}]}
    """
    each = [_without_defaults(source.keys) for source in sources]
    if len(sources) == 1:
        keys, beside = {f"{section}.{name}": value for name, value in each[0].items()}, [f"{section}.path"]
    else:
        keys, beside = {section: each}, [f"{section}.{place}" for place in range(len(sources))]
    comments = {key: source.comment for key, source in zip(beside, sources, strict=True) if source.comment}
    return Noted(keys, note, comments)


def _without_defaults(keys: Mapping[str, Any]) -> dict[str, Any]:
    fields = DataSource.model_fields
    return {name: value for name, value in keys.items() if value is not None and value != fields[name].default}
