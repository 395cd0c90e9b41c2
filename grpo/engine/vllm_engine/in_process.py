"""The vLLM engine, in this process. This folder is the only one that imports vllm."""

import logging
import os
import warnings

# vLLM reads these while it is imported; whatever the user has set stays.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # starts in seconds instead of half a minute
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # the learner uses the same cores
# A forked worker of a split engine would hold this process' connections open, and the locks of its threads.
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# oneDNN keeps the code of each product of matrices, 0.3 MB for every number of tokens, and 1,024 of them unless told
# otherwise: memory would grow for a thousand steps. Fewer cost some percent of the sampling (docs/results.md).
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")

logging.getLogger("vllm.triton_utils.importing").setLevel(logging.ERROR)  # speaks before vLLM has read the level

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside vLLM and its dependencies, none of them ours to mend
    from grpo.engine.vllm_engine.engine import VllmEngine
    from grpo.engine.vllm_engine.split_engine import SplitVllmEngine

__all__ = ["SplitVllmEngine", "VllmEngine"]
