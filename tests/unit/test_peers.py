"""Configurations of other trainers become recipes that load; no key of theirs is passed over in silence."""

import json
from pathlib import Path

import pytest

from grpo.errors import UserError
from grpo.peers import PEERS, TRL, VERL, Peer, translate
from grpo.peers.document import peer_document
from grpo.peers.report import report_lines, to_json
from grpo.peers.shell import overrides_of
from grpo.recipe import nearest_key, parse_recipe, recipe_keys
from grpo.recipe.keys import PEERS as HINTS
from tests.unit.public_configs import CONFIGS, FIXTURES, REFUSED, imported, of_text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_public_configuration_becomes_a_recipe_that_check_takes_or_names_why_not(path: Path) -> None:
    peer = PEERS[path.stem.partition("_")[0]]
    done = translate(peer, path)
    assert REFUSED.get(path.stem, "") in done.refusal
    assert bool(done.refusal) == (path.stem in REFUSED)
    said = {entry.key for entry in done.entries}
    assert [key for key in peer.read(path) if key not in said] == []
    assert [entry.key for entry in done.entries if entry.kind == "unknown"] in ([], ["trainer.nnodes"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_whatever_is_lost_has_a_reason(path: Path) -> None:
    done = translate(PEERS[path.stem.partition("_")[0]], path)
    assert [entry.key for entry in done.entries if entry.kind in ("lost", "needless") and not entry.sentence] == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_no_key_that_is_translated_is_told_to_be_without_effect(path: Path) -> None:
    done = translate(PEERS[path.stem.partition("_")[0]], path)
    keys = {kind: {entry.key for entry in done.entries if entry.kind == kind} for kind in ("translated", "default")}
    assert not keys["translated"] & keys["default"]


def test_a_shell_script_is_read_as_the_shell_would() -> None:
    script = """
# a comment with don't
n=$((2 * 4))
model=${MODEL:-"${HOME}/models/x"}
files="['a.parquet', 'b.parquet']"
ARGS=(
    data.train_batch_size=$((n * 8))  # of prompts
    +trainer.extra=True
)
cat > other.py << EOF
data.seed = 1
EOF
python3 -m verl.trainer.main_ppo \\
    data.train_files="$files" \\
    actor_rollout_ref.model.path=${model} \\
    trainer.logger='["console","wandb"]' \\
    trainer.nnodes=${UNSET} "${ARGS[@]}" $@
"""
    assert overrides_of(script, "run.sh") == {
        "data.train_files": ["a.parquet", "b.parquet"],
        "actor_rollout_ref.model.path": "~/models/x",
        "trainer.logger": ["console", "wandb"],
        "trainer.nnodes": "${UNSET}",
        "data.train_batch_size": 64,
        "trainer.extra": True,
    }


@pytest.mark.parametrize(
    ("peer", "suffix", "text", "said"),
    [
        (TRL, ".yaml", "a: 1\n", "none of TRL's keys"),
        (TRL, ".yaml", "- a\n", "no mapping of keys"),
        (TRL, ".py", "print(1)\n", "calls no GRPOConfig"),
        (TRL, ".py", "def\n", "not valid Python"),
        (TRL, ".yaml", "num_generations: eight\n", "num_generations = 'eight'"),
        (VERL, ".sh", "echo hello\n", "gives no override"),
        (VERL, ".sh", "echo 'open\n", "not valid shell"),
        (VERL, ".sh", "x data.train_batch_size=many\n", "data.train_batch_size = 'many'"),
        (VERL, ".yaml", "a: {b: 1}\n", "none of verl's keys"),
    ],
)
def test_what_is_no_configuration_is_refused(peer: Peer, suffix: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        of_text(peer, text, tmp_path, suffix)


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_tables_name_keys_that_there_are_and_give_reasons(peer: Peer) -> None:
    known = {key.replace(".N", "") for key in recipe_keys()}
    sections = {key.rpartition(".")[0] for key in known}
    assert [row.key for row in peer.rows if row.ours and row.ours not in known | sections] == []
    assert [row.key for row in peer.rows if not row.ours and not row.sentence] == []


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_hints_at_unknown_keys_say_what_the_tables_say(peer: Peer) -> None:
    for row in peer.rows:
        last = row.key.rpartition(".")[2]
        if row.ours and last in HINTS:
            assert HINTS[last] in {each.ours for each in peer.rows if each.key.rpartition(".")[2] == last}
            assert nearest_key(f"algorithm.{last}") == HINTS[last]


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_the_document_is_what_the_table_gives(peer: Peer) -> None:
    committed = (FIXTURES.parents[2] / "docs" / f"from_{peer.name}.md").read_text(encoding="utf-8")
    assert committed == peer_document(peer), "run `make docs`"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_report_for_people_fits_80_columns(path: Path) -> None:
    lines = list(report_lines(translate(PEERS[path.stem.partition("_")[0]], path)))
    assert [line for line in lines if len(line) > 80] == []


def test_the_report_for_programs_holds_every_key() -> None:
    done, recipe = imported("verl_qwen2_7b")
    said = json.loads(json.dumps(to_json(done)))
    assert parse_recipe(said["recipe"]) == recipe
    assert {entry["kind"] for entry in said["keys"]} >= {"translated", "implied", "lost", "needless", "added"}
