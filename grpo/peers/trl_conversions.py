"""Keys of ours that come of several of TRL's, or mean something else there."""

from collections.abc import Callable
from typing import Any, get_args

from grpo.peers.layout import layout
from grpo.peers.mapping import Convert, NoCounterpartError, Noted, Settings
from grpo.peers.sink_names import sinks
from grpo.recipe import Learner

SCHEDULES = get_args(Learner.model_fields["lr_scheduler_type"].annotation)
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


def steps(key: str, condition: Callable[[Settings], bool] = lambda _: True) -> Convert:
    """A number of TRL's updates as steps here; a share of the run where it is below 1."""

    def convert(settings: Settings) -> int | None:
        value, total = settings[key], settings["max_steps"]
        if not value or not condition(settings):
            return None
        if value < 1 and (total is None or total < 0):
            raise NoCounterpartError("a share of a number of steps that the configuration does not say; set it by hand")
        count = value * total if value < 1 else value
        return max(1, round(float(count) / updates_per_step(settings)))

    return convert


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
    if settings["fp16"]:
        raise NoCounterpartError("float16 is not trained in here; learner.dtype is float32 or bfloat16")
    off = settings["bf16"] is False and named in (None, "auto", "float32")
    return "float32" if off else "bfloat16"


def policy_loss(settings: Settings) -> str:
    loss, level = settings["loss_type"], settings["importance_sampling_level"]
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
    value = settings["epsilon_high"]
    if settings["loss_type"] == "sapo" or value is None:
        return None
    if settings["loss_type"] != "cispo":
        return float(value)
    if value <= 1:
        raise NoCounterpartError(
            "cispo's cap is epsilon_high itself in TRL, and 1 + epsilon_high here: it must exceed 1"
        )
    return Noted(float(value) - 1, "cispo's cap is epsilon_high itself in TRL, and 1 + epsilon_high here.")


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
    name = str(settings["lr_scheduler_type"])
    name = "constant" if name == "constant_with_warmup" else name
    if name not in SCHEDULES:
        raise NoCounterpartError(f"learner.lr_scheduler_type is one of {', '.join(SCHEDULES)}; it stays at constant")
    return name


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
        "data.held_out.reference": "solution",
    }


def mixture(settings: Settings) -> Any:
    parts = (settings["dataset_mixture"] or {}).get("datasets", [])
    if not parts:
        return None
    first, others = parts[0], [str(part.get("id")) for part in parts[1:]]
    keys = {
        "data.train.path": first.get("id"),
        "data.train.subset": first.get("config"),
        "data.train.split": first.get("split", "train"),
    }
    if others:
        return Noted(keys, f"A recipe trains on one dataset: {', '.join(others)} left out.")
    return keys


def report_to(settings: Settings) -> Noted:
    return sinks(settings["report_to"], elsewhere=("none",))
