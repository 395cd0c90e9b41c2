"""Keys of ours that come of several of verl's, or mean something else there."""

from pathlib import Path
from typing import Any

from grpo.peers.layout import layout
from grpo.peers.mapping import Convert, NoCounterpartError, Noted, Settings
from grpo.peers.shared import inline_template, schedule_of, switches
from grpo.peers.sink_names import sinks
from grpo.peers.verl_data import files_of, source_keys

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
ADVANTAGES = {  # estimator: baseline and scale
    "grpo": ("group", "group"),
    "grpo_vectorized": ("group", "group"),
    "rloo": ("leave_one_out", "none"),
    "rloo_vectorized": ("leave_one_out", "none"),
    "reinforce_plus_plus": ("batch", "batch"),
    "reinforce_plus_plus_baseline": ("group", "batch"),
    "gpg": ("group", "none"),
}
LOSSES = {
    "vanilla": "clip",
    "gspo": "gspo",
    "geo_mean": "gmpo",
    "gpg": "reinforce",
    "sapo": "sapo",
    "cispo": "cispo",
    "dppo_tv": "dppo",
}
AGGREGATIONS = {"token-mean": "dapo", "seq-mean-token-mean": "grpo", "seq-mean-token-sum-norm": "dr_grpo"}
BY_ANSWER = ("gspo", "geo_mean", "sapo")  # losses that verl averages over answers, whatever loss_agg_mode says
ESTIMATORS = {"kl": "k1", "k1": "k1", "mse": "k2", "k2": "k2", "low_var_kl": "k3", "k3": "k3"}
OWNERS = {"qwen": "Qwen", "deepseek": "deepseek-ai", "mistral": "mistralai", "moonlight": "moonshotai"}  # of models
FOLDER = ("/", "~", ".", "$")  # how the name of a folder begins


def whole(key: str) -> Convert:
    """A count; -1 is verl's word for never, or all."""
    return lambda settings: None if settings[key] is None else max(0, int(settings[key])) or None


def model(settings: Settings) -> Any:
    """A folder of this machine or a hub id; a folder that is elsewhere by its last names."""
    path = str(settings["actor_rollout_ref.model.path"])
    if not path.startswith(FOLDER) or Path(path).expanduser().is_dir():
        return path
    parent, name = Path(path).parent.name, Path(path).name
    owner = next((owner for start, owner in OWNERS.items() if name.lower().startswith(start)), None)
    if parent in OWNERS.values():
        owner = parent
    return Noted(f"{owner}/{name}", f"the folder {path} is not here.") if owner else path


def train_data(settings: Settings) -> Any:
    return source_keys("data.train_files", "data.train", settings)


def held_out_data(settings: Settings) -> Any:
    return source_keys("data.val_files", "data.held_out", settings)


def train_limit(settings: Settings) -> int | None:
    limit: int | None = whole("data.train_max_samples")(settings)
    if limit and len(files_of(settings["data.train_files"])) > 1:
        raise NoCounterpartError("of all files together; here each source of the list has a limit of its own")
    return limit


def chat_template_kwargs(settings: Settings) -> dict[str, Any] | None:
    return switches(below("data.apply_chat_template_kwargs", settings))


def chat_template(settings: Settings) -> None:
    inline_template(settings["actor_rollout_ref.model.custom_chat_template"])


def engine_args(settings: Settings) -> dict[str, Any] | None:
    """What verl hands on to vLLM as it is, and the argument that verl sets and no key of ours does."""
    args = below(f"{ROLLOUT}.engine_kwargs.vllm", settings)
    if settings[f"{ROLLOUT}.enable_prefix_caching"] is False:
        args.setdefault("enable_prefix_caching", False)
    return {"engine.args": args} if args else None


def below(section: str, settings: Settings) -> dict[str, Any]:
    """The keys that are given below a name, without it, as a tree."""
    tree: dict[str, Any] = {}
    for key, value in settings.given.items():
        if not key.startswith(f"{section}.") or value is None:
            continue
        node = tree
        *path, last = key.removeprefix(f"{section}.").split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def num_minibatches(settings: Settings) -> int:
    """train_batch_size / ppo_mini_batch_size: both count prompts."""
    batch, part = settings.whole("data.train_batch_size"), settings.whole(f"{ACTOR}.ppo_mini_batch_size")
    if not batch:
        return 1
    if batch % part:
        raise NoCounterpartError(f"data.train_batch_size {batch} is no multiple of it; set algorithm.num_minibatches")
    return batch // part


def problems_per_step(settings: Settings) -> int:
    batch = settings.whole("data.train_batch_size")
    if batch < 1:
        raise NoCounterpartError("a stream without batches; rollout.max_staleness lets answers be sampled ahead")
    return batch


def num_samples(settings: Settings) -> int:
    """Greedy answers to one problem are all the same."""
    return settings.whole(f"{ROLLOUT}.val_kwargs.n") if evaluation_temperature(settings) else 1


def num_generations(settings: Settings) -> int:
    count = settings.whole(f"{ROLLOUT}.n")
    if count < 2:
        raise NoCounterpartError("an answer is judged against the others of its group, and alone it has none")
    return count


def row_tokens(settings: Settings) -> int:
    """Tokens of a row: verl's are of one GPU, of which a sequence-parallel group has several."""
    longest = settings.whole("data.max_prompt_length") + settings.whole("data.max_response_length")
    if not settings[f"{ACTOR}.use_dynamic_bsz"]:
        return max(2048, longest)
    group = settings.whole(f"{ACTOR}.ulysses_sequence_parallel_size") or 1
    return max(settings.whole(f"{ACTOR}.ppo_max_token_len_per_gpu") * group, longest)


def refills(settings: Settings) -> int | None:
    """Groups that may be sampled beyond those of a step: verl counts batches, and 0 is without end."""
    if not settings["algorithm.filter_groups.enable"]:
        return None
    problems = settings.whole("data.train_batch_size")
    batch = settings.whole("data.gen_batch_size") or problems
    batches = settings.whole("algorithm.filter_groups.max_num_gen_batches")
    return max(1, batches * batch - problems) if batches else 4 * problems


def estimator(settings: Settings) -> tuple[str, str]:
    name = str(settings["algorithm.adv_estimator"])
    if name not in ADVANTAGES:
        critic = (
            " learns values with a critic; nothing here does:" if name in ("gae", "optimal_token_baseline") else ":"
        )
        raise NoCounterpartError(f"{name}{critic} answers are judged against their group, as algorithm.baseline says")
    return ADVANTAGES[name]


def baseline(settings: Settings) -> str:
    return estimator(settings)[0]


def scale(settings: Settings) -> str:
    name = estimator(settings)[1]
    return "none" if name == "group" and settings["algorithm.norm_adv_by_std_in_grpo"] is False else name


def policy_loss(settings: Settings) -> str:
    mode = str(settings[f"{ACTOR}.policy_loss.loss_mode"])
    if mode not in LOSSES:
        raise NoCounterpartError(f"{mode} has no counterpart; algorithm.policy_loss stays at clip")
    return LOSSES[mode]


def loss_type(settings: Settings) -> Any:
    mode, loss = str(settings[f"{ACTOR}.loss_agg_mode"]), str(settings[f"{ACTOR}.policy_loss.loss_mode"])
    if loss in BY_ANSWER:
        return Noted("grpo", f"verl averages {loss} over answers, whatever loss_agg_mode says.")
    if mode == "seq-mean-token-sum":
        return Noted("dr_grpo", "dr_grpo divides the sum by the constant max_completion_length too: smaller steps.")
    if mode not in AGGREGATIONS:
        raise NoCounterpartError(f"{mode} has no counterpart; algorithm.loss_type stays at dapo")
    return AGGREGATIONS[mode]


def clips(settings: Settings) -> bool:
    return policy_loss(settings) in ("clip", "gspo", "gmpo", "cispo")


def epsilon(settings: Settings) -> float | None:
    return float(_clip("low", settings)) if clips(settings) else None


def epsilon_high(settings: Settings) -> float | None:
    low, high = _clip("low", settings), _clip("high", settings)
    return float(high) if clips(settings) and high != low else None


def dppo_threshold(settings: Settings) -> float | None:
    """With dppo verl's bounds are of the probability's change, and here there is one for both directions."""
    if policy_loss(settings) != "dppo":
        return None
    low, high = float(_clip("low", settings)), float(_clip("high", settings))
    if low != high:
        raise NoCounterpartError(f"dppo has one bound for both directions, not {low:g} and {high:g}; set it by hand")
    return high


def _clip(side: str, settings: Settings) -> Any:
    """clip_ratio stands for the side that is not given; verl's own default of either is 0.2."""
    key, both = f"{ACTOR}.clip_ratio_{side}", f"{ACTOR}.clip_ratio"
    return settings[both] if key not in settings.given and both in settings.given else settings[key]


def delta(settings: Settings) -> float | None:
    """verl's dual clip: the ratio of a negative advantage counts up to here."""
    return settings.number(f"{ACTOR}.clip_ratio_c") if policy_loss(settings) == "clip" else None


def beta(settings: Settings) -> float | None:
    if settings[f"{ACTOR}.use_kl_loss"]:
        return settings.number(f"{ACTOR}.kl_loss_coef")
    return settings.number("algorithm.kl_ctrl.kl_coef") if settings["algorithm.use_kl_in_reward"] else 0.0


def kl_in(settings: Settings) -> str | None:
    both = settings[f"{ACTOR}.use_kl_loss"]
    if settings["algorithm.use_kl_in_reward"] and both:
        raise NoCounterpartError("the KL is in the loss already, and stands in one place here")
    return "reward" if settings["algorithm.use_kl_in_reward"] and beta(settings) else None


def kl_estimator(settings: Settings) -> Any:
    if not beta(settings):
        return None
    in_loss = settings[f"{ACTOR}.use_kl_loss"]
    name = str(settings[f"{ACTOR}.kl_loss_type"] if in_loss else settings["algorithm.kl_penalty"])
    if name.endswith("+"):
        return Noted("k2", f"{name} has the gradient of k2, which stands for it.")
    if name not in ESTIMATORS:
        raise NoCounterpartError(f"{name} has no counterpart; algorithm.kl_estimator is k1, k2 or k3")
    return ESTIMATORS[name]


def correction(settings: Settings) -> tuple[str, float] | None:
    """Mode and bound of the correction for the engine; verl's default is none."""
    weights, rejection = (settings[f"algorithm.rollout_correction.rollout_{name}"] for name in ("is", "rs"))
    for level, kind, name in ((weights, "truncate", "is"), (rejection, "mask", "rs")):
        if level in ("token", "sequence"):
            bound = settings[f"algorithm.rollout_correction.rollout_{name}_threshold"]
            return f"{level}_{kind}", float(bound) if isinstance(bound, int | float) else 2.0
    return None


def corrects(settings: Settings) -> Any:
    if correction(settings):
        return True
    return Noted(False, "verl corrects for the engine only where it is told to; in bfloat16, true is safer.")


def correction_mode(settings: Settings) -> str | None:
    found = correction(settings)
    return found[0] if found else None


def correction_cap(settings: Settings) -> float | None:
    found = correction(settings)
    return found[1] if found else None


def gpus(settings: Settings) -> Any:
    """verl's GPUs sample and learn in turn; here some sample and the others learn."""
    count = settings.whole("trainer.nnodes") * settings.whole("trainer.n_gpus_per_node")
    megatron = f"{ACTOR}.megatron"
    sizes = {
        "tensor": settings[f"{megatron}.tensor_model_parallel_size"],
        "pipeline": settings[f"{megatron}.pipeline_model_parallel_size"],
        "context": settings[f"{ACTOR}.ulysses_sequence_parallel_size"],
    }
    if int(sizes["pipeline"] or 1) > 1:
        sizes["context"] = 1  # the two do not go together
    split = settings.whole(f"{ROLLOUT}.tensor_model_parallel_size")
    found = layout(count, engine_split=split, **{name: int(size or 1) for name, size in sizes.items()})
    share = settings[f"{ROLLOUT}.gpu_memory_utilization"]
    if count == 1:
        return {**found, "rollout.gpu_memory_utilization": share}
    sampling = found["rollout.num_engines"] * found["rollout.tensor_parallel"]
    note = f"GPUs that learn: {found['num_gpus'] - sampling}; that sample: {sampling}."
    return Noted(found, note)


def warmup_steps(settings: Settings) -> int | None:
    """verl's schedule takes a step with each rollout, this trainer's with each optimizer update."""
    updates = num_minibatches(settings) * settings.whole(f"{ACTOR}.ppo_epochs")
    count, share = (settings[f"{ACTOR}.optim.lr_warmup_steps{end}"] for end in ("", "_ratio"))
    if count is not None and int(count) >= 0:
        return int(count) * updates or None
    total = settings["trainer.total_training_steps"]
    if share and not total:
        raise NoCounterpartError("a share of a number of steps that the configuration does not say; set it by hand")
    return round(float(share) * int(total)) * updates if share else None


def schedule(settings: Settings) -> str:
    return schedule_of(str(settings[f"{ACTOR}.optim.warmup_style"] or settings[f"{ACTOR}.optim.lr_scheduler_type"]))


def min_lr_rate(settings: Settings) -> float | None:
    return settings.number(f"{ACTOR}.optim.min_lr_ratio") if schedule(settings) == "cosine" else None


def beta1(settings: Settings) -> float:
    return float(settings[f"{ACTOR}.optim.betas"][0])


def beta2(settings: Settings) -> float:
    return float(settings[f"{ACTOR}.optim.betas"][1])


def evaluation_temperature(settings: Settings) -> float:
    return settings.number(f"{ROLLOUT}.val_kwargs.temperature") if settings[f"{ROLLOUT}.val_kwargs.do_sample"] else 0.0


def output_dir(settings: Settings) -> str:
    given = settings["trainer.default_local_dir"]
    return str(given) if given else f"runs/{settings['trainer.experiment_name']}"


def report_to(settings: Settings) -> Noted:
    return sinks(settings["trainer.logger"], elsewhere=("console", "file"))
