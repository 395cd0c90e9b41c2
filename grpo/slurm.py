"""The job script of a run over several nodes, as text: ``grpo launch slurm RECIPE --nodes 2`` prints it.

One launcher on each node starts the learner's processes, which meet at the first node of the job. Before the time limit
the script sends USR1, which launchers and followers ignore and the first process takes as the request to finish its
step and save; then it puts the job back into the queue, to go on with ``--resume``.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from grpo.errors import RecipeError, UserError
from grpo.parallel_sizes import check_parallel, engine_gpus, fewest_nodes, gpus_used, sizes_on
from grpo.recipe import Recipe, with_overrides

PORT = 29500  # of the rendezvous on the first node
_TIME = re.compile(r"(?:(\d+)-)?(\d{1,2}):([0-5]\d):([0-5]\d)")

_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus_per_node}
#SBATCH --cpus-per-task={cpus_per_node}
#SBATCH --time={time}
#SBATCH --signal=B:USR1@{save_s}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
{partition}
# Submit it with the environment active that grpo is installed in: the job inherits its PATH.
set -uo pipefail

if ! command -v torchrun >/dev/null; then
    echo "no torchrun on PATH: activate the environment that grpo is installed in, and submit again" >&2
    exit 127
fi

first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# Where nodes have several networks, name the interface that joins them, such as ib0 or eth0: left to themselves, gloo
# may take one that leads nowhere and NCCL a slow one.
if [[ -n "${{GRPO_INTERFACE:-}}" ]]; then
    export GLOO_SOCKET_IFNAME="$GRPO_INTERFACE" NCCL_SOCKET_IFNAME="$GRPO_INTERFACE"
fi
export OMP_NUM_THREADS={num_threads}

# A job that comes back from the queue goes on from the newest complete checkpoint.
resume=()
if [[ -d {checkpoints} ]]; then
    resume=(--resume)
fi

# {save_s} s before the time limit: finish the step, save, and queue up again.
stopping=
trap 'stopping=1; scancel --signal=USR1 "$SLURM_JOB_ID.0"' USR1

srun --kill-on-bad-exit=1 --cpus-per-task={cpus_per_node} bash -c 'trap "" USR1; exec torchrun "$@"' torchrun \\
    --nnodes={nodes} \\
    --nproc-per-node={processes_per_node} \\
    --rdzv-backend=c10d \\
    --rdzv-id="$SLURM_JOB_ID" \\
    --rdzv-endpoint="$first_node:{port}" \\
    -m grpo.cli train {arguments} "${{resume[@]}}" &
step=$!
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do # the signal ended the wait, not the step
    wait "$step"
    code=$?
done

if [[ -n "$stopping" && $code -ne 0 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def job_script(
    recipe_path: Path | str,
    overrides: Sequence[str],
    recipe: Recipe,
    *,
    nodes: int,
    gpus_per_node: int,
    time: str = "24:00:00",
    save_s: int = 600,
    partition: str | None = None,
    cpus_per_gpu: int = 8,
) -> str:
    """A script for ``sbatch`` that trains a recipe on ``nodes`` nodes.

    Args:
        recipe_path: as given on the command line; relative to the folder that the job is submitted from.
        overrides: the command line's, such as ``learner.learning_rate=1e-5``.
        recipe: what the two come to.
        time: the job's limit, as HH:MM:SS or D-HH:MM:SS.
        save_s: seconds before the limit at which the run is told to save; more than a step takes.
        partition: absent: the cluster's own choice.
        cpus_per_gpu: cores for each process.

    Raises:
        UserError: a count is not positive, the time has another form or leaves no room to save, or fewer nodes do.
        RecipeError: the recipe is for a CPU, or its sizes are not its ``num_gpus``; the learner's processes do not
            divide evenly over the nodes, or a node has too few GPUs.
    """
    _check_job(nodes, gpus_per_node, cpus_per_gpu, time, save_s, partition)
    _check_gpus(recipe, nodes * gpus_per_node)
    processes_per_node = _processes_per_node(recipe, nodes, gpus_per_node)
    _check_fewer_nodes(recipe, nodes, gpus_per_node)
    return _SCRIPT.format(
        name=re.sub(r"[^\w.-]", "-", Path(recipe.output_dir).name) or "grpo",
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        cpus_per_node=gpus_per_node * cpus_per_gpu,
        time=time,
        save_s=save_s,
        partition=f"#SBATCH --partition={partition}\n" if partition else "",
        num_threads=cpus_per_gpu,
        checkpoints=shlex.quote(str(Path(recipe.output_dir) / "checkpoints")),
        processes_per_node=processes_per_node,
        port=PORT,
        arguments=shlex.join([str(recipe_path), *overrides]),
    )


def idle_note(recipe: Recipe, *, nodes: int, gpus_per_node: int) -> str | None:
    """Where a job books more GPUs than its run uses: how many, and what uses or books others; else None."""
    booked, used, engines = nodes * gpus_per_node, gpus_used(recipe), engine_gpus(recipe)
    if used == booked:
        return None
    per_node = recipe.parallel.num_processes // nodes
    beside = f", and the engines' {engines} on the first node" if engines else ""
    each = " on each node" if nodes > 1 else ""
    note = f"note: the job books {_gpus(booked)} and uses {used}: {per_node} for the learner{each}{beside}"
    fixes = []
    sizes = sizes_on(recipe, booked, gpus_per_node)
    more = with_overrides(recipe, sizes).num_gpus
    if more > used:
        fixes.append(f"{' '.join(sizes)} uses {more}")
    if per_node + engines < gpus_per_node:
        fixes.append(f"--gpus-per-node {per_node + engines} books {nodes * (per_node + engines)}")
    return f"{note}. {'; '.join(fixes) or 'No other parallel.shard uses more'}"


def _check_gpus(recipe: Recipe, booked: int) -> None:
    """Refuse what the run itself would refuse after its time in the queue."""
    if not recipe.num_gpus:
        raise RecipeError(
            "num_gpus",
            0,
            f"is a run on a CPU, and the job would book {_gpus(booked)} for it",
            f"Use num_gpus={gpus_used(recipe)}; on a CPU, `grpo train` needs no such job.",
        )
    check_parallel(recipe, None)


def _check_fewer_nodes(recipe: Recipe, nodes: int, gpus_per_node: int) -> None:
    fewest = fewest_nodes(recipe, gpus_per_node)
    if fewest is None or fewest >= nodes:
        return
    sizes = sizes_on(recipe, nodes * gpus_per_node, gpus_per_node)
    raise UserError(
        f"--nodes {nodes}: the run's {_gpus(gpus_used(recipe))} are on {fewest} of them, and the others would stay "
        f"idle. Use --nodes {fewest}" + (f", or sizes for {nodes}: {' '.join(sizes)}" if sizes else "")
    )


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def _processes_per_node(recipe: Recipe, nodes: int, gpus_per_node: int) -> int:
    """Every node has as many of the learner's; the engines' GPUs are on the first one, whose process starts them."""
    learners, engines = recipe.parallel.num_processes, engine_gpus(recipe)
    sizes = sizes_on(recipe, nodes * gpus_per_node, gpus_per_node)
    fix = f"Use {' '.join(sizes)}." if sizes else "Take nodes of more GPUs, or fewer engines."
    asked = f"{learners} process{'' if learners == 1 else 'es'}"
    per_node, rest = divmod(learners, nodes)
    if rest:
        raise RecipeError(
            "parallel",
            asked,
            f"must be a multiple of the {nodes} nodes",
            fix,
        )
    if per_node + engines > gpus_per_node:
        beside = f" beside the engines' {engines} on the first" if engines else ""
        raise RecipeError(
            "parallel",
            asked,
            f"needs {per_node} GPUs on each node{beside}, and a node has {gpus_per_node}",
            fix,
        )
    return per_node


def _check_job(
    nodes: int, gpus_per_node: int, cpus_per_gpu: int, time: str, save_s: int, partition: str | None
) -> None:
    counts = {"--nodes": nodes, "--gpus-per-node": gpus_per_node, "--cpus-per-gpu": cpus_per_gpu, "--save-s": save_s}
    for option, count in counts.items():
        if count < 1:
            raise UserError(f"{option} {count}: must be at least 1")
    parts = _TIME.fullmatch(time)
    if parts is None:
        raise UserError(f"--time {time!r}: must be HH:MM:SS or D-HH:MM:SS, such as 24:00:00")
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    if ((days * 24 + hours) * 60 + minutes) * 60 + seconds <= save_s:
        raise UserError(f"--time {time}: must be more than the {save_s} s before its end at which the run saves")
    if partition is not None and not re.fullmatch(r"[\w.,-]+", partition):
        raise UserError(f"--partition {partition!r}: must be names of letters, digits, '_', '.' and '-'")
