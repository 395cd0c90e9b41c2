"""The job script: valid shell, the right counts, and what it does when its time is nearly up."""

import os
import subprocess
from pathlib import Path

import pytest

from grpo.errors import RecipeError, UserError
from grpo.recipe import Recipe, parse_recipe
from grpo.slurm import job_script

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
        job_script("r.yaml", [], recipe(*overrides, "parallel.shard=16"), nodes=2, gpus_per_node=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": 5}, "must be a multiple of the 5 nodes. Use parallel.shard=30"),
        ({"gpus_per_node": 4}, "needs 6 GPUs on each node beside the engines' 2 on the first, and a node has 4"),
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
