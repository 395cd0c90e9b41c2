"""The plan as text, and sizes that cannot be."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grpo.cli import app
from grpo.errors import ModelError, RecipeError, UserError
from grpo.model_shape import read_shape
from grpo.parallel_sizes import check_parallel, fewest_nodes, most_learners, proposals, sizes_on
from grpo.plan import plan_of
from grpo.recipe import SHIPPED, Recipe, load_recipe, parse_recipe, with_overrides
from grpo.slurm import job_script

R1_ZERO = SHIPPED / "r1_zero.yaml"
QWEN, SMOLLM2 = "Qwen/Qwen3-30B-A3B-Base", "HuggingFaceTB/SmolLM2-135M-Instruct"
ENGINES = ("rollout.num_engines=2", "rollout.gpu_memory_utilization=0.9")
TEXT = """
model: MODEL
max_steps: 1
output_dir: runs/x
template: qa
data: {train: {path: arithmetic}}
rewards: [{name: number}]
rollout: {problems_per_step: 4, num_generations: 8, max_prompt_length: 64, max_completion_length: 64}
learner: {learning_rate: 1e-4}
"""


def recipe(model: str, *overrides: str) -> Recipe:
    return parse_recipe(TEXT.replace("MODEL", model), overrides)


def report(asked: Recipe, gpus: str) -> str:
    return plan_of(asked, gpus).text


def grpo(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.stdout, done.stderr


def proposed_in(text: str) -> list[str]:
    """The overrides that a plan says the run fits with."""
    found = re.search(r"^fits with (.*) \([\d.]+ GB\)$", text, re.MULTILINE)
    assert found is not None, text
    return found[1].split()


def test_every_process_has_its_parts_and_they_add_up() -> None:
    text = report(recipe(QWEN, "learner.dtype=bfloat16", "parallel.shard=6", *ENGINES), "8xH200")
    assert text.startswith(f"{QWEN}: 30,532,122,624 parameters\non 8 x H200 (141 GB): 6 learner processes (shard 6)")
    assert "engine: on each of 2 GPUs\n" in text
    other = text.split("learner: on each of 6 GPUs\n")[1].split("\n\n")[0].splitlines()
    sizes = {line.split("  ")[1].strip(): float(line.split(" GB")[0].split()[-1]) for line in other}
    learning = [line for line in other if "(while publishing)" not in line][:-1]
    total = sum(float(line.split(" GB")[0].split()[-1]) for line in learning)
    assert sizes["at the fullest moment"] == pytest.approx(total, abs=0.06)


def test_what_fits_is_said_with_the_longest_row() -> None:
    text = report(recipe(SMOLLM2), "1xL4")
    found = re.search(r"largest learner.row_tokens that fits: ([\d,]+)", text)
    assert found is not None
    largest = int(found[1].replace(",", ""))
    assert f"largest learner.row_tokens that fits: {largest:,}" in report(
        recipe(SMOLLM2, f"learner.row_tokens={largest}"), "1xL4"
    )
    assert "fits in 24 GB per GPU, with " in text
    assert "DOES NOT FIT" in report(recipe(SMOLLM2, f"learner.row_tokens={largest + 256}"), "1xL4")


def test_what_does_not_fit_comes_with_overrides_that_fit() -> None:
    own = ("learner.dtype=bfloat16", "parallel.shard=6", *ENGINES)
    asked = recipe(QWEN, *own)
    text = report(asked, "8xH100")
    assert "DOES NOT FIT in 80 GB per GPU: " in text
    changed = recipe(QWEN, *own, *proposed_in(text))
    assert "\nfits in 80 GB per GPU" in report(changed, f"{changed.num_gpus or 8}xH100")


def test_where_nothing_helps_it_says_so() -> None:
    text = report(recipe(QWEN), "1x1GB")
    assert "no setting makes room" in text.splitlines()[-1]


def test_separate_engines_and_this_machine() -> None:
    text = report(recipe("tiny-base", "parallel.shard=2", "rollout.num_engines=2"), "cpu")
    assert "on this machine: 2 learner processes (shard 2), 2 engines\n" in text
    assert "learner: in each of 2 processes\n" in text
    assert "engine: in each of 2 processes\n" in text
    assert "shared memory of the machine\n" in text
    assert "\nfits in this machine's " in text


@pytest.mark.parametrize(
    ("model", "overrides", "gpus", "sizes"),
    [
        (SMOLLM2, [], "8xH100", "num_gpus=8 parallel.shard=6 rollout.num_engines=2"),
        (SMOLLM2, [], "2xL4", "num_gpus=2 parallel.shard=1 rollout.num_engines=1"),
        (
            QWEN,
            ["learner.dtype=bfloat16"],
            "8x48GB",
            "parallel.shard=6 rollout.num_engines=1 rollout.tensor_parallel=2",
        ),
    ],
)
def test_a_recipe_for_one_process_gets_sizes_for_the_gpus(
    model: str, overrides: list[str], gpus: str, sizes: str
) -> None:
    text = report(recipe(model, *overrides), gpus)
    proposed = text.splitlines()[0].split("GPUs: ")[1]
    assert sizes in proposed
    assert f"on {gpus.partition('x')[0]} x " in text
    assert re.search(r"^engine: on (each of )?\d GPU", text, re.MULTILINE)
    taken = report(recipe(model, *overrides, *proposed.split()), gpus)
    same = [[line for line in lines.splitlines() if not line.startswith("fits with")] for lines in (taken, text)]
    assert same[0] == same[1][1:], "the account is of the recipe with these overrides"


def test_sizes_that_do_not_fit_come_with_all_overrides_that_do() -> None:
    text = report(recipe(QWEN), "8xH100")
    overrides = proposed_in(text)
    assert len({override.partition("=")[0] for override in overrides}) == len(overrides), "each key once"
    changed = recipe(QWEN, *overrides)
    assert "\nfits in 80 GB per GPU" in report(changed, f"{changed.num_gpus}xH100")


def test_what_a_plan_proposes_slurm_launches_on_nodes_of_eight() -> None:
    text = report(load_recipe(R1_ZERO), "8xH100")
    overrides = proposed_in(text)
    assert overrides == ["num_gpus=14", "parallel.shard=12"]
    assert text.splitlines()[-1] == (
        "2 nodes of 8 GPUs: 6 learner processes on each, the engines' 2 GPUs on the first "
        "(`grpo launch slurm --nodes 2`)"
    )
    script = job_script(R1_ZERO, overrides, load_recipe(R1_ZERO, overrides), nodes=2, gpus_per_node=8)
    assert "--nproc-per-node=6 " in script
    assert plan_of(load_recipe(R1_ZERO, overrides), "16xH100").fits


@pytest.mark.parametrize("num_gpus", [*range(2, 18), 24, 32, 60, 64])
@pytest.mark.parametrize("gpus_per_node", [2, 4, 8])
def test_every_proposal_goes_on_the_nodes_that_the_gpus_are(num_gpus: int, gpus_per_node: int) -> None:
    nodes = -(-num_gpus // gpus_per_node)
    proposed = list(proposals(num_gpus, gpus_per_node))
    assert proposed
    for overrides in proposed:
        changed = recipe(SMOLLM2, *overrides)
        check_parallel(changed, None)
        assert changed.num_gpus <= num_gpus
        held = fewest_nodes(changed, gpus_per_node)
        assert held is not None
        assert held <= nodes


@pytest.mark.parametrize(("tensor", "gpus"), [(1, "4xH100"), (2, "8xH100"), (4, "12xH100"), (1, "3xH200")])
def test_what_makes_room_goes_on_whole_nodes(tensor: int, gpus: str) -> None:
    asked = recipe(QWEN, "learner.dtype=bfloat16", f"parallel.tensor={tensor}", "rollout.num_engines=1")
    changed = with_overrides(asked, sizes_on(asked, int(gpus.partition("x")[0])))
    text = report(changed, gpus)
    fitting = with_overrides(changed, proposed_in(text) if "DOES NOT FIT" in text else [])
    nodes = fewest_nodes(fitting)
    assert nodes is not None
    assert nodes <= -(-max(fitting.num_gpus, int(gpus.partition("x")[0])) // 8)
    assert plan_of(fitting, f"{fitting.num_gpus}x{gpus.partition('x')[2]}").fits


def test_as_many_learners_as_nodes_hold_beside_the_engines() -> None:
    assert most_learners(8, 2) == 6
    assert most_learners(16, 0) == 16
    assert most_learners(16, 3) == 10  # five on each node: the second has room for eight
    assert most_learners(16, 2, multiple=8) == 8
    assert most_learners(12, 2) == 10
    assert most_learners(16, 8) == 0  # the first node has none left
    assert most_learners(4, 2, multiple=3) == 0


def test_sizes_that_no_nodes_hold_are_said_with_those_that_do() -> None:
    text = report(load_recipe(R1_ZERO, ["num_gpus=16", "parallel.shard=14"]), "16xH100")
    assert (
        "\n2 nodes of 8 GPUs do not hold them: each has as many learner processes, and the first the engines' 2 GPUs "
        "besides. Use num_gpus=14 parallel.shard=12\n"
    ) in text


def test_the_commands_in_the_header_of_r1_zero_work() -> None:
    header = R1_ZERO.read_text(encoding="utf-8").splitlines()[1]
    commands = re.findall("`grpo ([^`]*)`", header)
    assert commands
    for command in commands:
        code, out, _ = grpo(*shlex.split(command.replace("recipes/", f"{SHIPPED}/")))
        assert code == 0, out
        assert out.startswith("the recipe is for 8 GPUs; sizes for 16 GPUs: num_gpus=14 parallel.shard=12\n")
    overrides = re.findall(r"[a-z_.]+=\d+", header)
    assert overrides == ["num_gpus=14", "parallel.shard=12"]


def test_sizes_for_other_gpus_keep_all_but_the_shard() -> None:
    asked = recipe(SMOLLM2, "parallel.shard=2", "parallel.tensor=3", "rollout.num_engines=2", "num_gpus=8")
    text = report(asked, "11xH100")
    assert "the recipe is for" not in text, "its own sizes are those for 11 GPUs"
    assert "on 8 of 11 x H100 (80 GB): 6 learner processes (shard 2, tensor 3), 2 engines\n" in text
    text = report(recipe(SMOLLM2, "parallel.shard=3", "rollout.num_engines=1"), "8xH100")
    assert text.startswith("the recipe is for 4 GPUs; sizes for 8 GPUs: num_gpus=8 parallel.shard=7\n")


def test_fewer_gpus_than_the_sizes_can_be_for_are_refused_by_the_options_name() -> None:
    asked = recipe(SMOLLM2, "parallel.shard=2", "parallel.tensor=3", "rollout.num_engines=2", "num_gpus=8")
    message = r"--gpus 4xH100 names 4 GPUs, .* need 8 \(2 for engines \+ 6 for the learner\).* Use --gpus 8xH100"
    with pytest.raises(UserError, match=message):
        plan_of(asked, "4xH100")


def test_a_plan_exits_with_2_where_it_does_not_fit_and_check_with_0() -> None:
    code, out, _ = grpo("plan", str(R1_ZERO), "--gpus", "8xH200")
    assert (code, "\nfits in 141 GB per GPU" in out) == (0, True)
    code, out, _ = grpo("plan", str(R1_ZERO), "--gpus", "8xH100")
    assert (code, "\nDOES NOT FIT in 80 GB per GPU" in out) == (2, True)
    code, out, _ = grpo("check", str(R1_ZERO))
    assert (code, "\nDOES NOT FIT in 80 GB per GPU" in out) == (0, True)


def test_a_plan_for_this_machine_says_that_the_recipe_is_for_gpus() -> None:
    asked = recipe("tiny-base", "num_gpus=2", "rollout.num_engines=1")
    assert report(asked, "cpu").startswith("the recipe is for 2 GPUs; this plan is for this machine, without GPUs ")


def test_one_engine_on_two_gpus_is_not_each() -> None:
    sizes = ("num_gpus=3", "rollout.num_engines=1", "rollout.tensor_parallel=2")
    text = report(recipe(QWEN, *sizes), "3xH200")
    assert "1 learner process, 1 engine on 2 GPUs\n" in text
    assert "learner: on 1 GPU\n" in text
    text = report(recipe(QWEN, *sizes, "num_gpus=5", "rollout.num_engines=2"), "5xH200")
    assert "1 learner process, 2 engines each on 2 GPUs\n" in text


@pytest.mark.parametrize(
    ("model", "gpus", "error"), [("no-owner/no-model", "8xH100", ModelError), ("tiny-base", "8xK80", UserError)]
)
def test_what_is_not_known_is_refused(
    model: str, gpus: str, error: type[UserError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(error):
        report(recipe(model), gpus)


@pytest.mark.parametrize(
    ("model", "overrides", "key", "message"),
    [
        (
            SMOLLM2,
            ["parallel.tensor=2", *ENGINES],
            "parallel.tensor",
            "must divide the model's 9 attention heads. Use 1, say",
        ),
        (
            QWEN,
            ["parallel.tensor=8", *ENGINES],
            "parallel.tensor",
            "must divide the model's 4 key and value heads. Use 4, say",
        ),
        (SMOLLM2, ["parallel.expert=3", "parallel.tensor=3", *ENGINES], "parallel.expert", "has no experts"),
        (
            SMOLLM2,
            ["parallel.pipeline=4", *ENGINES],
            "parallel.pipeline",
            "must divide the model's 30 layers. Use 3, say",
        ),
        (SMOLLM2, ["num_gpus=8"], "num_gpus", "1 for the learner .* Use parallel.shard=6 rollout.num_engines=2"),
        (
            SMOLLM2,
            ["num_gpus=8", "parallel.shard=16", "rollout.num_engines=1"],
            "num_gpus",
            r"16 for the learner \(shard 16\). Use parallel.shard=7, say",
        ),
        (
            SMOLLM2,
            ["num_gpus=16", "parallel.shard=6", "rollout.num_engines=2"],
            "num_gpus",
            r"6 for the learner \(shard 6\). Use num_gpus=14 parallel.shard=12, say",
        ),
        (
            SMOLLM2,
            ["num_gpus=9", "parallel.shard=2", "parallel.tensor=3", "rollout.num_engines=2"],
            "num_gpus",
            r"2 for engines \(2 x 1\) \+ 6 for the learner \(shard 2 x tensor 3\). Use num_gpus=8",
        ),
        (SMOLLM2, ["rollout.expert_parallel=true"], "rollout.expert_parallel", "has no experts"),
        (QWEN, ["rollout.expert_parallel=true", "rollout.num_engines=1"], "rollout.expert_parallel", "on a CPU"),
        (
            QWEN,
            ["rollout.expert_parallel=true", "num_gpus=2", "rollout.num_engines=1"],
            "rollout.expert_parallel",
            "tensor_parallel is 1",
        ),
        (SMOLLM2, ["rollout.tensor_parallel=2"], "rollout.tensor_parallel", "must be 1 where rollout.num_engines is 0"),
        (
            SMOLLM2,
            ["rollout.tensor_parallel=2", "rollout.num_engines=1"],
            "rollout.tensor_parallel",
            "9 attention heads",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(model: str, overrides: list[str], key: str, message: str) -> None:
    asked = recipe(model, *overrides)
    with pytest.raises(RecipeError, match=message) as refused:
        check_parallel(asked, read_shape(model))
    assert refused.value.key == key


def test_sizes_that_fit_pass() -> None:
    sizes = ("parallel.shard=2", "parallel.tensor=4", "parallel.expert=4", "rollout.num_engines=1")
    check_parallel(recipe(QWEN, *sizes, "rollout.tensor_parallel=8", "num_gpus=16"), read_shape(QWEN))
    check_parallel(recipe(SMOLLM2, "parallel.pipeline=3", "parallel.replicate=5", *ENGINES), read_shape(SMOLLM2))
    check_parallel(recipe("owner/unknown", "parallel.tensor=7", "num_gpus=9", *ENGINES), None)


def test_a_family_whose_parts_are_not_known_stays_whole(tmp_path: Path) -> None:
    config = (Path(__file__).parents[2] / "grpo" / "tiny_base" / "checkpoint" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"qwen3_moe"', '"gpt_oss"'))
    check_parallel(recipe(str(tmp_path)), read_shape(str(tmp_path)))
    with pytest.raises(RecipeError, match="is a gpt_oss"):
        check_parallel(recipe(str(tmp_path), "parallel.shard=2", *ENGINES), read_shape(str(tmp_path)))


def test_a_plan_imports_nothing_heavy() -> None:
    code = (
        "import sys, grpo.plan, grpo.slurm; print([m for m in ('torch', 'vllm', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_sleeping_engine_leaves_its_memory_to_the_learner() -> None:
    own = ("num_gpus=1", "rollout.gpu_memory_utilization=0.8", "learner.row_tokens=8192")
    awake, asleep = (report(recipe(SMOLLM2, *own, f"rollout.sleep={on}"), "1xL4") for on in ("false", "true"))
    assert "DOES NOT FIT" in awake
    assert "\nfits in 24 GB per GPU" in asleep
    assert len(re.findall(r"engine's .* \(while sampling\)", asleep)) == 3
    assert "engine's weights, awake to be loaded" in asleep
    assert "awake" not in awake


@pytest.mark.parametrize(
    ("overrides", "other"),
    [
        ([], "num_gpus = 0"),
        (["num_gpus=1", "rollout.engine=transformers"], "rollout.engine = 'transformers'"),
        (["num_gpus=2", "rollout.num_engines=1"], "rollout.num_engines = 1"),
        (["num_gpus=1", "rollout.servers=[http://a:1]"], r"rollout.servers = \['http://a:1'\]"),
    ],
)
def test_what_does_not_share_the_learners_gpu_does_not_sleep(overrides: list[str], other: str) -> None:
    with pytest.raises(RecipeError, match=f"'rollout.sleep' = .* {other}.*Set rollout.sleep=false"):
        recipe(SMOLLM2, "rollout.sleep=true", *overrides)
