"""Public configurations of other trainers, and texts like them, translated."""

import json
from pathlib import Path

from grpo.peers import PEERS, Peer, Translation, translate
from grpo.recipe import Recipe, parse_recipe

FIXTURES = Path(__file__).parent / "peers"
CONFIGS = sorted([*FIXTURES.glob("trl_*.yaml"), *FIXTURES.glob("verl_*.sh")])
REFUSED = {  # verl runs it with answers beyond the window that the model was made for
    "verl_gmpo_7b": "exceeds the window of Qwen/Qwen2.5-Math-7B, 4096 tokens"
}
TRL_FIELDS = json.loads((FIXTURES / "trl_fields.json").read_text(encoding="utf-8"))


def imported(name: str) -> tuple[Translation, Recipe]:
    path = next(path for path in CONFIGS if path.stem == name)
    done = translate(PEERS[name.partition("_")[0]], path)
    return done, parse_recipe(done.text)


def of_text(peer: Peer, text: str, folder: Path, suffix: str = ".yaml", **options: int) -> tuple[Translation, Recipe]:
    path = folder / f"config{suffix}"
    path.write_text(text, encoding="utf-8")
    done = translate(peer, path, **options)
    return done, parse_recipe(done.text)


def kinds(done: Translation, key: str) -> set[str]:
    return {entry.kind for entry in done.entries if entry.key == key}
