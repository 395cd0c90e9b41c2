"""The schema seen as dotted keys: which there are, and which is meant."""

import difflib
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from grpo.recipe.schema import Recipe, Section


def recipe_keys() -> tuple[str, ...]:
    """Every dotted key of the schema; ``N`` stands for a place in a list."""
    return tuple(key for key, _, _ in fields_below(Recipe))


RENAMED = {  # keys of earlier recipes: what to write now
    "log.wandb": "It is log.report_to=[wandb] now, with log.wandb_mode=offline or online; "
    "where it was off, leave it out.",
}
NEAR = 0.75  # of 1: below this two names have little in common
PEERS = {  # what other trainers call it, by the last part of the name
    **dict.fromkeys(("clip_eps", "eps_clip", "cliprange", "clip_range", "clip_ratio"), "algorithm.epsilon"),
    **dict.fromkeys(("clip_ratio_low", "eps_clip_low"), "algorithm.epsilon"),
    **dict.fromkeys(("clip_ratio_high", "eps_clip_high", "clip_higher"), "algorithm.epsilon_high"),
    **dict.fromkeys(("kl_coef", "kl_beta", "kl_loss_coef", "init_kl_coef"), "algorithm.beta"),
    **dict.fromkeys(("entropy_coeff", "entropy_loss_coef"), "algorithm.entropy_coef"),
    "ref_update_steps": "algorithm.ref_model_sync_steps",
    "ppo_epochs": "algorithm.num_iterations",
    "adv_estimator": "algorithm.baseline",
    "loss_agg_mode": "algorithm.loss_type",
    "importance_sampling_level": "algorithm.policy_loss",
    "vllm_importance_sampling_correction": "algorithm.importance_sampling_correction",
    "vllm_importance_sampling_mode": "algorithm.importance_sampling_mode",
    **dict.fromkeys(
        ("vllm_importance_sampling_cap", "vllm_importance_sampling_clip_max"), "algorithm.importance_sampling_cap"
    ),
    **dict.fromkeys(("train_batch_size", "per_device_train_batch_size"), "rollout.problems_per_step"),
    "generation_batch_size": "rollout.problems_per_step",
    "max_response_length": "rollout.max_completion_length",
    **dict.fromkeys(("reward_funcs", "reward_weights"), "rewards"),
    "model_name_or_path": "model",
    "dataset_name": "data.train.path",
    **dict.fromkeys(("answer", "solution", "ground_truth", "answer_column"), "data.train.reference"),
    **dict.fromkeys(("problem", "question_column", "prompt_column"), "data.train.question"),
    "save_steps": "checkpoint.every",
    "eval_steps": "evaluation.every",
    "ppo_max_token_len_per_gpu": "learner.row_tokens",
    "lr": "learner.learning_rate",
    **dict.fromkeys(("n", "num_samples", "num_samples_per_prompt", "n_samples_per_prompt"), "rollout.num_generations"),
}


def nearest_key(key: str) -> str | None:
    """The schema's key or section that ``key`` must have meant, wherever it stands; None where nothing is like it.

    By the last part of the name, and among equals by the whole of it.

    >>> nearest_key("learning_rat"), nearest_key("algorithm.clip_eps"), nearest_key("rollout.colour")
    ('learner.learning_rate', 'algorithm.epsilon', None)
    """
    last = key.rpartition(".")[2]
    if key not in recipe_keys() and last in PEERS:
        return PEERS[last]

    def likeness(known: str) -> tuple[float, float]:
        of_last = difflib.SequenceMatcher(None, last, known.rpartition(".")[2]).ratio()
        return of_last, difflib.SequenceMatcher(None, key, known).ratio()

    nearest = max((*recipe_keys(), *_sections()), key=likeness)
    return nearest if likeness(nearest)[0] >= NEAR else None


def _sections() -> tuple[str, ...]:
    """The names on the way to a key: ``data``, ``data.train``, ``rewards``."""
    parts = [key.replace(".N", "").split(".") for key in recipe_keys()]
    return tuple(dict.fromkeys(".".join(part[:depth]) for part in parts for depth in range(1, len(part))))


def fields_below(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    """Every dotted key, with the section that it stands in and its field there."""
    for name, field in model.model_fields.items():
        section, is_list = section_of(field.annotation)
        if section is None:
            yield prefix + name, model, field
        else:
            yield from fields_below(section, f"{prefix}{name}.N." if is_list else f"{prefix}{name}.")


def section_of(annotation: Any) -> tuple[type[Section] | None, bool]:
    """The section that an annotation holds, plain, optional or in a list; and whether it is a list of them.

    Where one section or a list of them may stand, the keys are those of one.
    """
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, False
    if get_origin(annotation) in (Union, types.UnionType):
        found = [section_of(arg) for arg in get_args(annotation)]
        return next((pair for pair in found if pair[0]), (None, False))
    if get_origin(annotation) is Annotated:
        return section_of(get_args(annotation)[0])
    if get_origin(annotation) is list:
        return section_of(get_args(annotation)[0])[0], True
    return None, False


def may_be_list(annotation: Any) -> bool:
    """Whether a list of sections may stand there, perhaps in place of one."""
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return any(may_be_list(arg) for arg in get_args(annotation))
    return section_of(annotation)[1]
