"""Keys of ours that come of several of TRL's, or mean something else there."""

from collections.abc import Callable
from typing import Any

from grpo.peers.data_sources import Source, data_keys
from grpo.peers.layout import layout
from grpo.peers.mapping import Convert, NoCounterpartError, Noted, Settings
from grpo.peers.shared import inline_template, schedule_of, switches
from grpo.peers.sink_names import sinks

SAME_SCHEDULES = {"constant_with_warmup": "constant", "cosine_with_min_lr": "cosine"}
REFERENCE = "solution"  # the column of references in TRL's and open-r1's examples
MIXTURE = (
    "weight there is the share of a dataset's rows that is taken; here it is the source's part of all problems: "
    "multiply each by its number of rows."
)
UNLIMITED = 1e6  # an upper bound of a ratio that is none


def given_if(key: str, condition: Callable[[Settings], bool], otherwise: Any = None) -> Convert:
    """A key that counts only under a condition, and is left out, or something else, where that does not hold."""
    return lambda settings: settings[key] if condition(settings) else otherwise


def answers_per_update(settings: Settings) -> int:
    """The answers that one optimizer update is made of, over all processes."""
    return (
        settings.whole("per_device_train_batch_size")
        * settings.whole("gradient_accumulation_steps")
        * settings.num_processes
    )


def answers_per_step(settings: Settings) -> int:
    """The answers sampled at a time: TRL's generation batch."""
    if settings["generation_batch_size"] is not None:
        return settings.whole("generation_batch_size")
    steps = settings["steps_per_generation"] or settings["gradient_accumulation_steps"]
    return settings.whole("per_device_train_batch_size") * settings.num_processes * int(steps)


def problems_per_step(settings: Settings) -> Any:
    """generation batch / num_generations; the next higher number where that is none."""
    answers, group = answers_per_step(settings), settings.whole("num_generations")
    how = (
        f"{answers} answers sampled at a time / num_generations {group}; --num-processes was {settings.num_processes}."
    )
    if answers % group:
        return Noted(-(-answers // group), f"{how} That is no whole number, so it was rounded up.")
    return Noted(answers // group, how)


def num_minibatches(settings: Settings) -> int:
    """Optimizer updates that a generation batch is divided into."""
    sampled, updated = answers_per_step(settings), answers_per_update(settings)
    if sampled % updated:
        raise NoCounterpartError(
            f"{sampled} answers are no multiple of the {updated} of an update; set algorithm.num_minibatches"
        )
    return sampled // updated


def updates_per_step(settings: Settings) -> int:
    """TRL counts optimizer updates; a step here is a rollout with all of its updates."""
    return max(1, answers_per_step(settings) // answers_per_update(settings)) * settings.whole("num_iterations")


def updates(key: str, settings: Settings) -> float | None:
    """A number of optimizer updates, or a share of the run's where it is below 1.

    Raises:
        NoCounterpartError: it is a share, and the configuration does not say of how many.
    """
    value, total = settings[key], settings["max_steps"]
    if not value:
        return None
    if value < 1 and (total is None or total < 0):
        raise NoCounterpartError("a share of a number of steps that the configuration does not say; set it by hand")
    return float(value * total if value < 1 else value)


def steps(key: str, condition: Callable[[Settings], bool] = lambda _: True) -> Convert:
    """``updates`` as steps here."""

    def convert(settings: Settings) -> int | None:
        count = updates(key, settings) if condition(settings) else None
        return None if count is None else max(1, round(count / updates_per_step(settings)))

    return convert


def warmup(settings: Settings) -> Any:
    """warmup_steps counts before warmup_ratio, as in transformers, whose schedule constant knows neither.

    Both count optimizer updates, there as here.
    """
    key = "warmup_steps" if settings["warmup_steps"] else "warmup_ratio"
    if settings[key] and settings["lr_scheduler_type"] == "constant":
        raise NoCounterpartError("transformers' constant has no warm-up, constant_with_warmup has")
    count = updates(key, settings)
    return None if count is None else max(1, round(count))


def evaluations(settings: Settings) -> Any:
    """Steps between evaluations: transformers takes logging_steps where eval_steps is not given."""
    if evaluates(settings) and settings["eval_strategy"] != "steps":
        raise NoCounterpartError(f"{settings['eval_strategy']} is not counted here; both ends of a run are evaluated")
    return steps("eval_steps" if settings["eval_steps"] else "logging_steps", evaluates)(settings)


def saves(settings: Settings) -> int | None:
    """Steps between checkpoints."""
    if settings["save_strategy"] not in ("steps", "no"):
        raise NoCounterpartError(f"{settings['save_strategy']} is not counted here; the run saves at its end")
    return steps("save_steps")(settings) if settings["save_strategy"] == "steps" else None


def max_steps(settings: Settings) -> int | None:
    total = settings["max_steps"]
    return None if total is None or total < 1 else max(1, int(total) // updates_per_step(settings))


def dtype(settings: Settings) -> str:
    """bfloat16 unless asked for anything else: TRL's bf16 is on where fp16 is off."""
    named = settings["dtype"] if "dtype" in settings.given else settings["torch_dtype"]
    if settings["fp16"] or named == "float16":
        raise NoCounterpartError("float16 is not trained in here; learner.dtype is float32 or bfloat16")
    off = settings["bf16"] is False and named in (None, "auto", "float32")
    return "float32" if off else "bfloat16"


def policy_loss(settings: Settings) -> Any:
    loss, level = settings["loss_type"], settings["importance_sampling_level"]
    if loss == "cispo" and (cap := _cispo_cap(settings)) <= 1:
        return Noted("cispo", f"the cap there is {cap:g}, and here never below 1: set algorithm.epsilon_high by hand.")
    if loss in ("cispo", "sapo"):
        return str(loss)
    if loss in ("luspo", "vespo"):
        raise NoCounterpartError(f"{loss} has no counterpart; gspo is the nearest: algorithm.policy_loss=gspo")
    return "gspo" if level == "sequence" else "clip"


def loss_type(settings: Settings) -> Any:
    loss = settings["loss_type"]
    if loss == "bnpo":
        return Noted(
            "dapo", "bnpo divides by the tokens of one device's micro-batch, dapo by those of the whole update."
        )
    names = {"cispo": "dapo", "sapo": "grpo"}
    if loss not in (*names, "grpo", "dapo", "dr_grpo"):
        raise NoCounterpartError(f"{loss} has no counterpart; algorithm.loss_type stays at dapo")
    return names.get(loss, loss)


def epsilon(settings: Settings) -> float | None:
    loss = settings["loss_type"]
    return None if loss == "sapo" else 1.0 if loss == "cispo" else settings.number("epsilon")


def epsilon_high(settings: Settings) -> Any:
    """TRL's cap of cispo is epsilon_high itself; here it is 1 + epsilon_high."""
    if settings["loss_type"] == "sapo":
        return None
    if settings["loss_type"] != "cispo":
        return None if settings["epsilon_high"] is None else settings.number("epsilon_high")
    cap = _cispo_cap(settings)
    if cap <= 1:
        raise NoCounterpartError(
            "cispo's cap is epsilon_high itself in TRL, and 1 + epsilon_high here: it must exceed 1"
        )
    return Noted(cap - 1, "cispo's cap is epsilon_high itself in TRL, and 1 + epsilon_high here.")


def _cispo_cap(settings: Settings) -> float:
    return settings.number("epsilon" if settings["epsilon_high"] is None else "epsilon_high")


def scale_rewards(settings: Settings) -> str:
    value = settings["scale_rewards"]
    return {True: "group", False: "none"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def corrects(settings: Settings) -> bool:
    return bool(settings["vllm_importance_sampling_correction"])


def sampling_cap(settings: Settings) -> float | None:
    if not corrects(settings):
        return None
    cap = settings["vllm_importance_sampling_cap"] or settings["vllm_importance_sampling_clip_max"]
    return UNLIMITED if cap is None else float(cap)


def sampling_min(settings: Settings) -> float | None:
    low = settings["vllm_importance_sampling_clip_min"]
    if low is not None and settings["vllm_importance_sampling_mode"].endswith("truncate"):
        raise NoCounterpartError("truncation has an upper bound alone here; a mode that masks has both")
    return None if low is None or not corrects(settings) else float(low)


def has_reference(settings: Settings) -> bool:
    return settings.number("beta") > 0


def syncs(settings: Settings) -> bool:
    return bool(settings["sync_ref_model"]) and has_reference(settings)


def schedule(settings: Settings) -> str:
    named = str(settings["lr_scheduler_type"])
    return schedule_of(SAME_SCHEDULES.get(named, named))


def min_lr_rate(settings: Settings) -> float | None:
    """What a cosine falls to, as a share of the learning rate: given so, or as a rate."""
    given = settings["lr_scheduler_kwargs"] or {}
    others = {name: value for name, value in given.items() if name not in ("min_lr", "min_lr_rate")}
    if others and others != {"num_cycles": 0.5}:
        raise NoCounterpartError(f"the schedule has min_lr_rate alone, not {', '.join(others)}")
    if given.get("min_lr_rate") is not None:
        return float(given["min_lr_rate"])
    least = given.get("min_lr")
    return None if least is None else float(least) / settings.number("learning_rate")


def optimizer(settings: Settings) -> None:
    if "adamw" not in str(settings["optim"]) or "8bit" in str(settings["optim"]):
        raise NoCounterpartError("the optimizer is AdamW, with 32-bit moments")


def engine(settings: Settings) -> Any:
    if settings["use_vllm"] or settings.num_processes > 1:
        return "vllm"
    return Noted("transformers", "rollout.engine=vllm, the default here, samples many times faster.")


def servers(settings: Settings) -> list[str] | None:
    if not settings["use_vllm"] or settings["vllm_mode"] != "server":
        return None
    url = settings["vllm_server_base_url"]
    return [url or f"http://{settings['vllm_server_host']}:{settings['vllm_server_port']}"]


def gpus(settings: Settings) -> dict[str, Any]:
    """The learner's processes on as many GPUs; beside them an engine's, unless one GPU does for both."""
    count = settings.num_processes
    if count == 1 or servers(settings):
        return {"num_gpus": count, "parallel.shard": count}
    split = settings.whole("vllm_tensor_parallel_size")
    return layout(count, engine_split=split)


def evaluates(settings: Settings) -> bool:
    return settings["eval_strategy"] not in ("no", None, False)


def held_out(settings: Settings) -> dict[str, Any] | None:
    if not evaluates(settings) or not settings["dataset_name"]:
        return None
    column = settings["dataset_prompt_column"]
    return {
        "data.held_out.path": settings["dataset_name"],
        "data.held_out.subset": settings["dataset_config"],
        "data.held_out.split": settings["dataset_test_split"],
        "data.held_out.question": column,
        "data.held_out.reference": REFERENCE,
    }


def of_one_dataset(key: str) -> Convert:
    """A key of the only dataset: a mixture, where there is one, names its own."""
    return given_if(key, lambda settings: not settings["dataset_mixture"])


def mixture(settings: Settings) -> Noted | None:
    """Every dataset of a mixture, with its weight.

    There a weight is the share of the dataset's rows that is taken, so that a large dataset counts for more.
    """
    parts = (settings["dataset_mixture"] or {}).get("datasets", [])
    if not parts:
        return None
    sources = [
        Source(
            keys={
                "path": part.get("id") or part.get("path"),
                "subset": part.get("config") or part.get("name"),
                "split": part.get("split", "train"),
                "question": settings["dataset_prompt_column"],
                "reference": REFERENCE,
                "weight": float(part.get("weight") or 1.0) if len(parts) > 1 else None,
            }
        )
        for part in parts
    ]
    return data_keys("data.train", sources, note=MIXTURE if len(parts) > 1 else "")


def chat_template(settings: Settings) -> None:
    inline_template(settings["chat_template"])


def chat_template_kwargs(settings: Settings) -> dict[str, Any] | None:
    return switches(settings["chat_template_kwargs"])


def engine_args(settings: Settings) -> dict[str, Any] | None:
    """vLLM's own arguments, of those that TRL has had keys for."""
    caching = settings["vllm_enable_prefix_caching"]
    return {"engine.args": {"enable_prefix_caching": False}} if caching is False else None


def best_metric(settings: Settings) -> Any:
    """The metric that chooses the best checkpoint: all of TRL's are of its evaluation."""
    name = settings["metric_for_best_model"]
    if name is None:
        return None
    name = str(name).removeprefix("eval_")
    if name == "loss":
        raise NoCounterpartError("a policy's loss says nothing of how good it is; name pass@1 or reward")
    if name == "reward":
        return Noted("pass@1", "the held-out reward there; held-out pass@1 here.")
    return Noted(name, "of the answers learned from; pass@1 is of held-out problems.")


def greater_is_better(settings: Settings) -> bool | None:
    value = settings["greater_is_better"]
    return None if value is None or settings["metric_for_best_model"] in (None, "loss", "eval_loss") else bool(value)


def report_to(settings: Settings) -> Noted:
    return sinks(settings["report_to"], elsewhere=("none",))
