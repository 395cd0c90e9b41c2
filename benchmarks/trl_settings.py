"""The objectives that TRL and grpo both have: TRL's arguments beside grpo's keys, and each convention that differs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Values = Mapping[str, str | float | int | bool]

TRL_COMMON: Values = {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "vllm_importance_sampling_mode": "token_truncate",
    "vllm_importance_sampling_clip_max": 2.0,
    "use_bias_correction_kl": False,
}
COMMON: Values = {"epsilon": 0.2, "epsilon_high": 0.28}
UNBOUNDED = ("sapo", "reinforce")  # policy terms that neither bounds


class Convention(StrEnum):
    """Where the two mean different things: the comparison then applies TRL's, and the value says what it is."""

    NONE = ""
    LOCAL_COUNT = "TRL counts tokens within each micro-batch and averages; grpo counts those of the update"
    LOCAL_QUANTILE = "TRL ranks entropies within each micro-batch; grpo ranks those of the update"
    UNSCORED = "TRL's denominator counts answers that nobody could score; in grpo they leave the batch"
    VALUE = "one gradient, but surrogates of different values: TRL's is a ratio, grpo's a log-probability"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One objective under both names.

    Attributes:
        trl: arguments of TRL's config; over ``TRL_COMMON`` for its GRPO trainer.
        grpo: keys of the recipe's section ``algorithm``, over ``COMMON`` where its policy term has bounds.
        micro_batches: in how many parts TRL is given the answers of a batch.
        on_policy: whether the policy that learns is the one that sampled.
        verifiers_fail: whether the answers marked so go without a reward.
        gradient_scale: TRL's gradient over grpo's, where it is a constant of the two definitions.
    """

    name: str
    trl: Values = field(default_factory=dict)
    grpo: Values = field(default_factory=dict)
    trainer: Literal["GRPO", "GMPO", "RLOO"] = "GRPO"
    micro_batches: int = 1
    on_policy: bool = False
    verifiers_fail: bool = False
    temperature: float = 1.0
    gradient_scale: float = 1.0
    convention: Convention = Convention.NONE

    @property
    def trl_arguments(self) -> dict[str, str | float | int | bool]:
        return {**(TRL_COMMON if self.trainer == "GRPO" else {}), **self.trl}

    @property
    def grpo_keys(self) -> dict[str, str | float | int | bool]:
        return {**({} if self.grpo.get("policy_loss") in UNBOUNDED else COMMON), **self.grpo}


def _alike(name: str, **keys: str | float | int | bool) -> Setting:
    """Both call it the same."""
    return Setting(name=name, trl=keys, grpo=keys)


def _accumulated(name: str, **keys: str | float | int | bool) -> Setting:
    return Setting(name=f"{name}, accumulated", trl=keys, grpo=keys, micro_batches=4)


AGGREGATIONS = (
    _alike("dapo", loss_type="dapo"),
    _alike("grpo", loss_type="grpo"),
    _alike("dr_grpo", loss_type="dr_grpo", scale_rewards="none"),
    _accumulated("dapo", loss_type="dapo"),
    _accumulated("grpo", loss_type="grpo"),
    _accumulated("dr_grpo", loss_type="dr_grpo"),
    Setting(name="bnpo", trl={"loss_type": "bnpo"}, grpo={"loss_type": "dapo"}),
    Setting(
        name="bnpo, accumulated",
        trl={"loss_type": "bnpo"},
        grpo={"loss_type": "dapo"},
        micro_batches=4,
        convention=Convention.LOCAL_COUNT,
    ),
    _alike("mask_truncated_completions", mask_truncated_completions=True),
    _alike("mask_truncated_completions, grpo", mask_truncated_completions=True, loss_type="grpo"),
    Setting(name="verifiers fail", verifiers_fail=True, convention=Convention.UNSCORED),
    Setting(
        name="verifiers fail, grpo",
        trl={"loss_type": "grpo"},
        grpo={"loss_type": "grpo"},
        verifiers_fail=True,
        convention=Convention.UNSCORED,
    ),
    Setting(name="temperature 0.7", temperature=0.7),
)

ADVANTAGES = (
    _alike("scale_rewards none", scale_rewards="none"),
    _alike("scale_rewards batch", scale_rewards="batch"),
    _alike("normalize_then_sum", multi_objective_aggregation="normalize_then_sum"),
)

POLICY_TERMS = (
    Setting(name="delta", trl={"delta": 1.5}, grpo={"delta": 1.5}),
    Setting(
        name="gspo",
        trl={"importance_sampling_level": "sequence", "loss_type": "grpo", "epsilon": 0.03, "epsilon_high": 0.04},
        grpo={"policy_loss": "gspo", "loss_type": "grpo", "epsilon": 0.03, "epsilon_high": 0.04},
    ),
    Setting(
        name="gspo_token",  # the same as GSPO, where no token has a weight of its own
        trl={
            "importance_sampling_level": "sequence",
            "loss_type": "grpo",
            "epsilon": 0.03,
            "epsilon_high": 0.04,
            "vllm_importance_sampling_correction": False,
        },
        grpo={
            "policy_loss": "gspo_token",
            "loss_type": "grpo",
            "epsilon": 0.03,
            "epsilon_high": 0.04,
            "importance_sampling_correction": False,
        },
    ),
    Setting(
        name="gspo, dapo",
        trl={"importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.04},
        grpo={"policy_loss": "gspo", "epsilon": 0.03, "epsilon_high": 0.04},
    ),
    Setting(
        name="cispo",  # TRL's epsilon_high is the bound itself
        trl={"loss_type": "cispo", "epsilon_high": 1.28},
        grpo={"policy_loss": "cispo", "epsilon": 1.0, "epsilon_high": 0.28},
    ),
    Setting(
        name="sapo",
        trl={"loss_type": "sapo", "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05},
        grpo={"policy_loss": "sapo", "loss_type": "grpo"},
    ),
    Setting(
        name="gmpo",
        trainer="GMPO",
        trl={"epsilon": 0.1, "epsilon_high": 0.15},
        grpo={
            "policy_loss": "gmpo",
            "loss_type": "grpo",
            "epsilon": 0.1,
            "epsilon_high": 0.15,
            "importance_sampling_correction": False,
        },
    ),
    Setting(name="reinforce", grpo={"policy_loss": "reinforce"}, on_policy=True, convention=Convention.VALUE),
    Setting(
        name="rloo",  # TRL: the product of an answer's ratios; grpo: every token over max_completion_length
        trainer="RLOO",
        trl={"beta": 0.0},
        grpo={
            "policy_loss": "reinforce",
            "loss_type": "dr_grpo",
            "baseline": "leave_one_out",
            "scale_rewards": "none",
            "importance_sampling_correction": False,
        },
        on_policy=True,
        gradient_scale=24.0,
        convention=Convention.VALUE,
    ),
    Setting(
        name="rloo, kl in reward",
        trainer="RLOO",
        trl={"beta": 0.05},
        grpo={
            "policy_loss": "reinforce",
            "loss_type": "dr_grpo",
            "baseline": "leave_one_out",
            "scale_rewards": "none",
            "importance_sampling_correction": False,
            "beta": 0.05,
            "kl_in": "reward",
            "kl_estimator": "k1",
        },
        on_policy=True,
        gradient_scale=24.0,
        convention=Convention.VALUE,
    ),
    _alike("top_entropy_quantile", top_entropy_quantile=0.2),
    Setting(
        name="top_entropy_quantile, accumulated",
        trl={"top_entropy_quantile": 0.2},
        grpo={"top_entropy_quantile": 0.2},
        micro_batches=16,  # of one answer: the first tokens of a group's answers have one entropy, and tie
        convention=Convention.LOCAL_QUANTILE,
    ),
    _alike("entropy_coef", entropy_coef=0.01),
)

CORRECTIONS = (
    Setting(
        name="no correction",
        trl={"vllm_importance_sampling_correction": False},
        grpo={"importance_sampling_correction": False},
    ),
    Setting(
        name="token_mask",
        trl={"vllm_importance_sampling_mode": "token_mask", "vllm_importance_sampling_clip_min": 0.7},
        grpo={"importance_sampling_mode": "token_mask", "importance_sampling_min": 0.7},
    ),
    Setting(
        name="sequence_truncate",
        trl={"vllm_importance_sampling_mode": "sequence_truncate"},
        grpo={"importance_sampling_mode": "sequence_truncate"},
    ),
    Setting(
        name="sequence_mask",
        trl={"vllm_importance_sampling_mode": "sequence_mask", "vllm_importance_sampling_clip_min": 0.5},
        grpo={"importance_sampling_mode": "sequence_mask", "importance_sampling_min": 0.5},
    ),
    _alike("off_policy_mask_threshold", off_policy_mask_threshold=0.02),
)

KL = (
    _alike("kl", beta=0.04),
    _alike("kl, grpo", beta=0.04, loss_type="grpo"),
    Setting(
        name="kl_importance_correction",
        trl={"beta": 0.04, "use_bias_correction_kl": True},
        grpo={"beta": 0.04, "kl_importance_correction": True},
    ),
    Setting(
        name="as DeepSeek-V3.2",
        trl={
            "loss_type": "grpo",
            "beta": 0.04,
            "use_bias_correction_kl": True,
            "off_policy_mask_threshold": 0.02,
            "vllm_importance_sampling_mode": "token_mask",
            "vllm_importance_sampling_clip_min": 0.7,
        },
        grpo={
            "loss_type": "grpo",
            "beta": 0.04,
            "kl_importance_correction": True,
            "off_policy_mask_threshold": 0.02,
            "importance_sampling_mode": "token_mask",
            "importance_sampling_min": 0.7,
        },
    ),
)

SETTINGS = (*AGGREGATIONS, *ADVANTAGES, *POLICY_TERMS, *CORRECTIONS, *KL)
