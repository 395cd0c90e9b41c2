"""vLLM inside this process: requests go straight to its engine core, answers come out as they finish."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from vllm.config import VllmConfig
from vllm.config.weight_transfer import WeightTransferConfig
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.exceptions import VLLMValidationError
from vllm.logprobs import FlatLogprobs
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.llm_engine import LLMEngine

from grpo.datatypes import Completion, Segment
from grpo.engine.parcel import read_parcel
from grpo.engine.protocol import Request, Sampling, check_fits
from grpo.engine.vllm_engine import patches, transfer
from grpo.engine.vllm_engine.own_arguments import engine_config
from grpo.engine.vllm_engine.sleep import CACHE, WEIGHTS, SleepMode
from grpo.errors import EngineError, UserError
from grpo.recipe import Rollout
from grpo.weights import Receipt, Tensors

GIB = 1024**3


class VllmEngine:
    """Implements `grpo.engine.protocol.Engine`; one may live in a process at a time.

    Args:
        model: folder or hub id of the checkpoint.
        rollout: the recipe's section: batch size, memory, compilation, stop texts, whether it sleeps between rounds.
        dtype: "float32" or "bfloat16".
        max_model_len: prompt and answer together, tokens.
        decode: tokens to text.
        on_gpu: the GPU build of vLLM, with a share of the GPU's memory; otherwise the CPU build.
        seed: vLLM's own; answers follow from the requests' seeds alone.
        engine_args: the recipe's ``engine.args``, laid over the arguments made here.

    Raises:
        RecipeError: vLLM has no argument of a name in ``engine_args``, or refuses its value.
    """

    transfer_backend = transfer.BACKEND

    def __init__(
        self,
        *,
        model: str,
        rollout: Rollout,
        dtype: str,
        max_model_len: int,
        decode: Callable[[Sequence[int]], str],
        on_gpu: bool,
        seed: int,
        engine_args: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.version = 0
        self._decode, self._max_model_len = decode, max_model_len
        self._request_ids = itertools.count()
        self._detokenizes = bool(rollout.stop or rollout.tool)
        transfer.register()
        _check_build(on_gpu=on_gpu)
        patches.apply(on_gpu=on_gpu, dtype=dtype)
        arguments = dict(
            model=model,
            dtype=dtype,
            max_model_len=max_model_len,
            max_num_seqs=rollout.max_num_seqs,
            max_num_batched_tokens=rollout.step_tokens(max_model_len),
            # A prompt in two parts makes vLLM rewind the request's generator, which the CPU's cannot do.
            enable_chunked_prefill=on_gpu,
            gpu_memory_utilization=rollout.gpu_memory_utilization,
            enforce_eager=not rollout.compile,
            seed=seed,
            logprobs_mode="processed_logprobs",
            enable_prefix_caching=True,
            generation_config="vllm",  # the checkpoint's own sampling defaults stay out
            skip_tokenizer_init=not self._detokenizes,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            enable_sleep_mode=on_gpu and rollout.sleep,
            weight_transfer_config=WeightTransferConfig(backend=self.transfer_backend),
            **self._worker_arguments(rollout),
        )
        with patches.learner_undisturbed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside vLLM
            config = engine_config(arguments, engine_args)
            if not on_gpu and config.cache_config.kv_cache_memory_bytes is None:
                config.cache_config.kv_cache_memory_bytes = kv_cache_bytes(config, rollout.kv_cache_gb)
            self._llm = LLMEngine.from_vllm_config(config, disable_log_stats=True)
        self._sleep_mode = SleepMode(self._llm, on=rollout.sleep)

    def _worker_arguments(self, _rollout: Rollout) -> dict[str, Any]:
        """What vLLM is told of its workers: nothing, for the one there is works in this process."""
        return {}

    def sample(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield each answer as it finishes; see `grpo.engine.protocol.Engine`.

        Each call begins with an empty prefix cache, so that what was sampled before (an evaluation, say, which a
        resumed run does not repeat) has no part in it. Abandoning the iterator cancels what has not finished.

        Raises:
            EngineError: a prompt does not fit the window, or stop texts were asked of an engine without any.
        """
        for request in requests:
            self._check(request)
        self._sleep_mode.wake(WEIGHTS, CACHE)
        if not self._llm.has_unfinished_requests():
            self._llm.reset_prefix_cache()
        return self._drive(requests)

    def _check(self, request: Request) -> None:
        check_fits(request, self._max_model_len)
        if request.sampling.stop and not self._detokenizes:
            raise EngineError(
                f"stop texts {list(request.sampling.stop)} need recipe key 'rollout.stop' or 'rollout.tool', and both "
                "were empty at start"
            )

    def _drive(self, requests: Sequence[Request]) -> Iterator[Completion]:
        waiting = {self._add(request.prompt.token_ids, _sampling_params(request)): request for request in requests}
        try:
            while waiting:
                for output in self._step():
                    yield self._completion(waiting.pop(output.request_id), output)
        finally:
            self._llm.abort_request(list(waiting))
            self._sleep_mode.sleep()

    def _add(self, token_ids: Sequence[int], parameters: SamplingParams) -> str:
        request_id = str(next(self._request_ids))
        try:
            self._llm.add_request(request_id, {"prompt_token_ids": list(token_ids)}, parameters)
        except VLLMValidationError as error:
            raise EngineError(f"vLLM refused a request of {len(token_ids)} prompt tokens: {error}") from error
        return request_id

    def _step(self) -> list[RequestOutput]:
        return [output for output in self._llm.step() if output.finished and isinstance(output, RequestOutput)]

    def _completion(self, request: Request, output: RequestOutput) -> Completion:
        answer = output.outputs[0]
        reason: Any = answer.finish_reason
        if reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended an answer to {request.prompt.group_id} with '{reason}'")
        return Completion(
            prompt=request.prompt,
            sample_index=request.sample_index,
            segments=(
                Segment(
                    token_ids=np.array(answer.token_ids, dtype=np.int64),
                    behavior_logprobs=_first_of_each(answer.logprobs),
                    version=self.version,
                ),
            ),
            finish_reason=reason,
            text=self._decode(answer.token_ids),
        )

    def load(self, tensors: Tensors, version: int) -> Receipt:
        """Replace the weights through vLLM's weight-transfer protocol, repacked as its kernels need them.

        Raises:
            EngineError: answers are still being sampled, or vLLM knows no parameter for a tensor.
        """
        delivery = transfer.Delivery(tensors=tensors)
        try:
            self._update({"delivery": delivery}, version)
        except (KeyError, ValueError) as error:
            name = next(reversed(delivery.hashes), "none yet")
            raise EngineError(f"vLLM could not load version {version}, at or before tensor {name}: {error}") from error
        return Receipt(version=version, hashes=delivery.hashes, missed=delivery.missed, repacked=delivery.repacked)

    def load_parcel(self, path: Path, version: int) -> Receipt:
        """As ``load``, of the tensors that lie in the parcel at ``path``, which nobody may write to meanwhile."""
        return self.load(read_parcel(path), version)

    def _update(self, update: dict[str, Any], version: int) -> None:
        """The three steps of an update, and what follows from new weights. The weights wake first and the cache last,
        so that what loading needs for a moment has the cache's room."""
        if self._llm.has_unfinished_requests():
            raise EngineError(f"weights of version {version} came while answers of {self.version} are being sampled")
        self._sleep_mode.wake(WEIGHTS)
        self._llm.collective_rpc("start_weight_update")
        self._llm.collective_rpc("update_weights", args=(update,))
        self._llm.collective_rpc("finish_weight_update")
        self._sleep_mode.wake(CACHE)
        self._llm.reset_prefix_cache()
        self.version = version

    def score(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Log-probabilities at temperature 1 of tokens 1..L-1; shape (L-1,).

        A request for prompt log-probabilities reads nothing from the prefix cache and, being greedy, draws nothing
        from any generator.

        Raises:
            EngineError: the text is empty or does not fit the window, or answers are being sampled.
        """
        if not 0 < len(token_ids) < self._max_model_len:
            raise EngineError(f"cannot score {len(token_ids)} tokens; allowed are 1 to {self._max_model_len - 1}")
        if self._llm.has_unfinished_requests():
            raise EngineError("cannot score while answers are being sampled")
        self._sleep_mode.wake(WEIGHTS, CACHE)
        parameters = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, flat_logprobs=True, detokenize=False, ignore_eos=True
        )
        self._add(token_ids, parameters)
        while True:
            for output in self._step():
                return _first_of_each(output.prompt_logprobs, skip=1)  # position 0 has nothing before it

    def close(self) -> None:
        """Free the engine's memory; another engine may be made afterwards."""
        self._llm.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()


def _check_build(*, on_gpu: bool) -> None:
    """Raises UserError where the vLLM here is not one for the devices of the recipe: it would use its own instead."""
    if current_platform.is_cpu() != on_gpu:
        return
    if on_gpu:
        problem, fix = "is at least 1, and the vLLM here is built for a CPU", "Install one for GPUs: pip install"
        raise UserError(f"recipe key 'num_gpus' {problem}. {fix} 'grpo[gpu]' in an environment without 'grpo[cpu]'")
    raise UserError(
        "recipe key 'num_gpus' = 0, and the vLLM here is built for GPUs and samples nowhere else. Set num_gpus=1, or "
        "install one for a CPU: pip install 'grpo[cpu]' in an environment without 'grpo[gpu]'"
    )


def kv_cache_bytes(config: VllmConfig, limit_gib: float) -> int:
    """What the fullest batch can use, or ``limit_gib`` where that is less.

    The CPU build zeroes all of it at start: a whole GiB costs 1 to 4 s and, for a tiny model, most of the memory.
    """
    model, block = config.model_config, config.cache_config.block_size
    limit = int(limit_gib * GIB)
    if model.is_hybrid or model.use_mla:  # caches of another form
        return limit
    heads, layers = model.get_num_kv_heads(config.parallel_config), model.get_num_layers(config.parallel_config)
    assert isinstance(model.dtype, torch.dtype)
    per_token = 2 * layers * heads * model.get_head_size() * model.dtype.itemsize
    blocks_per_sequence = -(-model.max_model_len // block) + 1
    blocks = 1 + config.scheduler_config.max_num_seqs * blocks_per_sequence  # one is vLLM's null block
    return min(limit, blocks * block * per_token)


def _sampling_params(request: Request) -> SamplingParams:
    sampling: Sampling = request.sampling
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=request.seed,
        ignore_eos=True,  # what ends an answer is said in full by the request
        stop_token_ids=list(sampling.stop_token_ids),
        stop=list(sampling.stop),
        include_stop_str_in_output=True,
        skip_special_tokens=False,  # a stop text may be a special token's
        detokenize=bool(sampling.stop),
        logprobs=0,  # the sampled token's alone
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _first_of_each(flat: object, skip: int = 0) -> npt.NDArray[np.float32]:
    """The log-probability of the token itself at each position: vLLM puts it before any alternatives."""
    assert isinstance(flat, FlatLogprobs)
    starts = flat.start_indices[skip:]
    return np.asarray(flat.logprobs, dtype=np.float32)[starts]
