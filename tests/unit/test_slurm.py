"""The job script: valid shell, the right counts, and what it does when its time is nearly up."""

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grpo.cli import app
from grpo.errors import RecipeError, UserError
from grpo.recipe import SHIPPED, Recipe, load_recipe, parse_recipe
from grpo.slurm import idle_note, job_script

TEXT = """
model: tiny-base
max_steps: 1
output_dir: runs/two nodes
template: qa
num_gpus: 14
data: {train: {path: arithmetic}}
rewards: [{name: number}]
rollout: {num_engines: 2, problems_per_step: 4, num_generations: 8, max_completion_length: 64}
learner: {learning_rate: 1e-4}
parallel: {shard: 12}
"""


def recipe(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, overrides)


def stand_in(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def run_script(script: str, folder: Path, torchrun: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run it on a cluster of one node, whose commands write what they were asked into ``calls``."""
    commands = folder / "bin"
    commands.mkdir()
    stand_in(commands, "scontrol", f'echo "scontrol $*" >> {folder}/calls; [[ $1 != show ]] || echo node7')
    # the real one signals all processes of the step
    stand_in(commands, "scancel", f'echo "scancel $*" >> {folder}/calls; kill -USR1 -- "-$(cat {folder}/group)"')
    stand_in(commands, "srun", f'shift 2; exec setsid bash -c \'echo $$ > {folder}/group; exec "$@"\' srun "$@"')
    stand_in(commands, "torchrun", f'echo "torchrun $*" >> {folder}/calls\n{torchrun}')
    environment = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NODELIST": "node[7-8]",
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return done, (folder / "calls").read_text()


@pytest.mark.parametrize("partition", [None, "gpu"])
def test_the_script_is_valid_shell_and_states_the_job(partition: str | None) -> None:
    script = job_script("my recipe.yaml", ["log.project=a b"], recipe(), nodes=2, gpus_per_node=8, partition=partition)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    directives = [line for line in lines if line.startswith("#SBATCH")]
    for wanted in ("nodes=2", "gpus-per-node=8", "ntasks-per-node=1", "time=24:00:00", "signal=B:USR1@600"):
        assert f"#SBATCH --{wanted}" in directives
    assert ("#SBATCH --partition=gpu" in directives) == (partition == "gpu")
    assert "#SBATCH --requeue" in directives
    assert lines.index(directives[-1]) < lines.index("set -uo pipefail")  # Slurm reads them before any command alone


def test_the_launcher_gets_the_sizes_the_meeting_point_and_the_command_line(tmp_path: Path) -> None:
    script = job_script("my recipe.yaml", ["log.project=a b"], recipe(), nodes=2, gpus_per_node=8)
    done, calls = run_script(script, tmp_path, 'printf "%s\\n" "$@" "$OMP_NUM_THREADS"')
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    for wanted in ("--nnodes=2", "--nproc-per-node=6", "--rdzv-endpoint=node7:29500", "my recipe.yaml"):
        assert wanted in said
    assert said[-2:] == ["log.project=a b", "8"]  # no --resume where there is nothing to go on from
    assert "requeue" not in calls


def test_a_job_that_comes_back_resumes(tmp_path: Path) -> None:
    (tmp_path / "runs" / "two nodes" / "checkpoints").mkdir(parents=True)
    script = job_script("r.yaml", [], recipe(), nodes=2, gpus_per_node=8)
    done, _ = run_script(script, tmp_path, 'echo "${@: -1}"')
    assert done.stdout.strip() == "--resume"


def test_a_failed_run_fails_the_job_and_does_not_come_back(tmp_path: Path) -> None:
    script = job_script("r.yaml", [], recipe(), nodes=2, gpus_per_node=8)
    done, calls = run_script(script, tmp_path, "exit 3")
    assert done.returncode == 3
    assert "requeue" not in calls


LEADER = """
python3 - <<'END'
import os, signal, sys, time

assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN, "launcher and followers must not die of it"
signal.signal(signal.SIGUSR1, lambda *_: (print("saved", flush=True), sys.exit(130)))
os.kill(int(os.environ["JOB"]), signal.SIGUSR1)  # the time is nearly up
time.sleep(20)
END
"""


def test_before_the_time_limit_the_run_saves_and_the_job_is_queued_again(tmp_path: Path) -> None:
    script = "export JOB=$$\n" + job_script("r.yaml", [], recipe(), nodes=2, gpus_per_node=8)
    done, calls = run_script(script, tmp_path, LEADER)
    assert done.stdout.splitlines() == ["saved"], done.stderr
    assert calls.splitlines()[-2:] == ["scancel --signal=USR1 42.0", "scontrol requeue 42"]


def test_engines_have_their_gpus_on_the_first_node() -> None:
    overrides = ("num_gpus=12", "parallel.shard=8", "rollout.num_engines=2", "rollout.tensor_parallel=2")
    script = job_script("r.yaml", [], recipe(*overrides), nodes=2, gpus_per_node=8)
    assert "--nproc-per-node=4 " in script
    with pytest.raises(RecipeError, match="needs 8 GPUs on each node beside the engines' 4 on the first"):
        job_script("r.yaml", [], recipe(*overrides, "num_gpus=20", "parallel.shard=16"), nodes=2, gpus_per_node=8)


def test_a_job_without_its_environment_says_so_before_it_starts(tmp_path: Path) -> None:
    script = job_script("r.yaml", [], recipe(), nodes=2, gpus_per_node=8)
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 127
    assert done.stderr == "no torchrun on PATH: activate the environment that grpo is installed in, and submit again\n"


def note_of(*overrides: str, nodes: int, gpus_per_node: int = 8, name: str = "r1_zero") -> str | None:
    return idle_note(load_recipe(SHIPPED / f"{name}.yaml", overrides), nodes=nodes, gpus_per_node=gpus_per_node)


def test_gpus_that_stay_idle_are_said_with_what_uses_them() -> None:
    assert note_of(nodes=1) is None
    assert note_of("num_gpus=14", "parallel.shard=12", nodes=2) == (
        "note: the job books 16 GPUs and uses 14: 6 for the learner on each node, and the engines' 2 on the first "
        "node. No other parallel.shard uses more"
    )
    assert note_of("num_gpus=6", "parallel.shard=4", nodes=2) == (
        "note: the job books 16 GPUs and uses 6: 2 for the learner on each node, and the engines' 2 on the first node. "
        "num_gpus=14 parallel.shard=12 uses 14; --gpus-per-node 4 books 8"
    )
    alone = note_of("num_gpus=1", nodes=1, name="quickstart")
    assert alone is not None
    assert "books 8 GPUs and uses 1: 1 for the learner. num_gpus=8 parallel.shard=6 rollout.num_engines=2" in alone
    assert alone.endswith("--gpus-per-node 1 books 1")


def test_the_command_line_prints_the_script_alone_and_the_note_beside_it() -> None:
    arguments = ["launch", "slurm", str(SHIPPED / "r1_zero.yaml"), "num_gpus=14", "parallel.shard=12", "--nodes", "2"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert done.stdout.startswith("#!/bin/bash\n")
    assert "note:" not in done.stdout
    assert done.stderr.startswith("note: the job books 16 GPUs and uses 14")


@pytest.mark.parametrize(
    ("name", "overrides", "nodes", "message"),
    [
        ("r1_zero", [], 2, "8 GPUs are on 1 of them, .* Use --nodes 1, or sizes for 2: num_gpus=14 parallel.shard=12$"),
        (
            "r1_zero",
            ["num_gpus=16", "parallel.shard=14"],
            2,
            "needs 7 GPUs on each node beside the engines' 2 .* Use num_gpus=14 parallel.shard=12.$",
        ),
        ("r1_zero", ["num_gpus=16"], 2, "'num_gpus' = 16: must be what the sizes make up"),
        ("quickstart", [], 1, "is a run on a CPU, and the job would book 8 GPUs for it. Use num_gpus=1;"),
        ("quickstart_2x2", [], 1, "is a run on a CPU, and the job would book 8 GPUs for it. Use num_gpus=4;"),
        ("quickstart", ["num_gpus=1"], 2, "multiple of the 2 nodes. Use num_gpus=14 parallel.shard=12 rollout.num_eng"),
    ],
)
def test_a_job_that_books_gpus_for_nothing_is_refused_with_what_works(
    name: str, overrides: list[str], nodes: int, message: str
) -> None:
    resolved = load_recipe(SHIPPED / f"{name}.yaml", overrides)
    with pytest.raises(UserError, match=message):
        job_script("r.yaml", overrides, resolved, nodes=nodes, gpus_per_node=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": 5}, "must be a multiple of the 5 nodes. Use num_gpus=32 parallel.shard=30"),
        ({"gpus_per_node": 4}, "needs 6 GPUs on each node beside the engines' 2 .* Use num_gpus=6 parallel.shard=4"),
        ({"nodes": 6, "gpus_per_node": 2}, "Take nodes of more GPUs, or fewer engines"),
        ({"nodes": 0}, "--nodes 0"),
        ({"time": "tomorrow"}, "--time 'tomorrow'"),
        ({"time": "00:10:00"}, "more than the 600 s"),
        ({"partition": "gpu\n#SBATCH --exclusive"}, "--partition"),
    ],
)
def test_a_job_that_cannot_be_is_refused(arguments: dict[str, object], message: str) -> None:
    job: dict[str, object] = {"nodes": 2, "gpus_per_node": 8, **arguments}
    with pytest.raises(UserError, match=message):
        job_script("r.yaml", [], recipe(), **job)  # type: ignore[arg-type]
