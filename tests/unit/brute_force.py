"""The whole objective once more, as plain loops written from the papers: the reference that the real one is held to.

Nothing here comes from `grpo`, nothing is vectorised and nothing is fast: one Python float per number, one torch scalar
per token that takes part in the loss, because autograd is the only thing wanted of torch. All numbers are float64.

    answers = make_answers()  # tests/unit/ragged_answers.py, or a list of Answer of one's own
    outcome = evaluate(answers, Settings(policy_loss="gspo", baseline="leave_one_out"))
    outcome.advantages[i], outcome.loss, outcome.policy_gradients[i][t], outcome.entropy_gradients[i][t]

Where a paper leaves something open, the functions below say what is done.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean, pstdev, stdev
from typing import Literal

import torch
from torch import Tensor

STD_EPSILON = 1e-4  # added to every standard deviation that divides (TRL)
REWARD_WEIGHTS = {"accuracy": 1.0, "format": 0.5}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One sampled answer; each sequence holds one entry for each of its tokens, nats where they are log-probabilities.

    ``reward`` is None where the verifier failed (a harness error). ``scores`` are of each reward function, unweighted.
    """

    group: int
    reward: float | None
    scores: Mapping[str, float]
    policy_logprobs: Sequence[float]  # the learner's now
    old_logprobs: Sequence[float]  # the learner's at the version that sampled
    behavior_logprobs: Sequence[float]  # the engine's while sampling
    ref_logprobs: Sequence[float]
    entropies: Sequence[float]
    from_environment: Sequence[bool]  # True where the environment wrote the token, not the policy
    truncated: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The recipe's keys, under their names."""

    pass_at_k: int = 1
    baseline: Literal["group", "leave_one_out", "batch"] = "group"
    scale_rewards: Literal["group", "batch", "mean", "none"] = "group"
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "sum_then_normalize"
    reward_weights: Mapping[str, float] = field(default_factory=lambda: dict(REWARD_WEIGHTS))
    policy_loss: Literal["clip", "gspo", "gspo_token", "cispo", "sapo", "gmpo", "reinforce", "dppo"] = "clip"
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    delta: float | None = None
    sapo_temperature_pos: float = 1.0
    sapo_temperature_neg: float = 1.05
    dppo_threshold: float = 0.15
    old: Literal["recompute", "behavior"] = "recompute"
    importance_sampling_correction: bool = False
    importance_sampling_mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = (
        "token_truncate"
    )
    importance_sampling_min: float = 0.5
    importance_sampling_cap: float = 2.0
    off_policy_mask_threshold: float | None = None
    top_entropy_quantile: float = 1.0
    beta: float = 0.0
    kl_in: Literal["loss", "reward"] = "loss"
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    kl_importance_correction: bool = False
    entropy_coef: float = 0.0
    loss_type: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    max_completion_length: int = 40
    mask_truncated_completions: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one update sees. The gradients have an entry for every token, 0.0 where the loss does not look at it."""

    advantages: list[float | None]  # None where the answer is unscored
    loss: float
    policy_gradients: list[list[float]]  # of the loss, with respect to the policy's log-probabilities
    entropy_gradients: list[list[float]]  # and with respect to the entropies


@dataclass(frozen=True)
class Token:
    """One token that the loss counts. The first two are leaves of the graph."""

    policy: Tensor
    entropy: Tensor
    old: float
    behavior: float
    ref: float

    @property
    def log_ratio(self) -> Tensor:
        return self.policy - self.old


def evaluate(answers: Sequence[Answer], settings: Settings) -> Outcome:
    """The update's loss over all `answers`, and its gradients: aggregation, entropy bonus and KL in the loss.

    dapo: arXiv 2503.14476 eq. 8; grpo: 2402.03300 eq. 3; dr_grpo: 2503.20783. Answers that have no token in the loss
    still count as answers; unscored ones do not.
    """
    values = advantages(answers, settings)
    tokens = [make_tokens(answer, settings) for answer in answers]
    num_tokens = sum(len(own) for own in tokens)
    num_scored = sum(value is not None for value in values)
    threshold = entropy_threshold([token.entropy.item() for own in tokens for token in own.values()], settings)

    loss = constant(0.0)
    for by_position, advantage in zip(tokens, values, strict=True):
        own = list(by_position.values())
        if not own or advantage is None:
            continue
        weight = {
            "dapo": 1 / num_tokens,
            "grpo": 1 / (num_scored * len(own)),
            "dr_grpo": 1 / (num_scored * settings.max_completion_length),
        }[settings.loss_type]
        terms = policy_terms(own, advantage, settings)
        corrections = correction_weights(own, settings)
        kept = keeps_sequence(own, advantage, settings)
        for token, term, correction in zip(own, terms, corrections, strict=True):
            if kept and token.entropy.item() >= threshold:
                loss = loss + weight * correction * term
            if settings.beta and settings.kl_in == "loss":
                loss = loss + weight * settings.beta * kl_term(token, settings)
            if settings.entropy_coef:
                loss = loss - weight * settings.entropy_coef * token.entropy

    if loss.requires_grad:
        loss.backward()
    return Outcome(
        advantages=values,
        loss=loss.item(),
        policy_gradients=[
            gradient(answer, {t: token.policy for t, token in own.items()})
            for answer, own in zip(answers, tokens, strict=True)
        ],
        entropy_gradients=[
            gradient(answer, {t: token.entropy for t, token in own.items()})
            for answer, own in zip(answers, tokens, strict=True)
        ],
    )


def make_tokens(answer: Answer, settings: Settings) -> dict[int, Token]:
    """The tokens that the loss counts, by position: those that the policy wrote. A truncated answer has none where
    such answers are masked, an unscored one never."""
    if answer.reward is None or (answer.truncated and settings.mask_truncated_completions):
        return {}
    old = answer.old_logprobs if settings.old == "recompute" else answer.behavior_logprobs
    return {
        t: Token(
            policy=constant(answer.policy_logprobs[t]).requires_grad_(),
            entropy=constant(answer.entropies[t]).requires_grad_(),
            old=old[t],
            behavior=answer.behavior_logprobs[t],
            ref=answer.ref_logprobs[t],
        )
        for t, from_environment in enumerate(answer.from_environment)
        if not from_environment
    }


def constant(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def gradient(answer: Answer, leaves: Mapping[int, Tensor]) -> list[float]:
    """The leaves' gradients at their positions among all tokens of the answer."""
    row = [0.0] * len(answer.policy_logprobs)
    for t, leaf in leaves.items():
        row[t] = 0.0 if leaf.grad is None else leaf.grad.item()
    return row


# ---------------------------------------------------------------- advantages


def advantages(answers: Sequence[Answer], settings: Settings) -> list[float | None]:
    """One number per answer, None where it is unscored: such an answer is in no mean and no standard deviation."""
    scored = [i for i, answer in enumerate(answers) if answer.reward is not None]
    groups: dict[int, list[int]] = {}
    for i in scored:
        groups.setdefault(answers[i].group, []).append(i)
    if settings.multi_objective_aggregation == "normalize_then_sum":
        known = decoupled_advantages(answers, groups, settings)
    else:
        known = relative_advantages(answers, groups, settings)
    return [known.get(i) for i in range(len(answers))]


def relative_advantages(
    answers: Sequence[Answer], groups: Mapping[int, list[int]], settings: Settings
) -> dict[int, float]:
    """(reward - baseline) / scale.

    group and group: GRPO, arXiv 2402.03300. none: Dr.GRPO, 2503.20783. leave_one_out: RLOO, 2402.14740. batch:
    REINFORCE++, 2501.03262, over answers. mean: MaxRL, 2602.02710. The only scored answer of a group has no others to
    be compared with: its leave-one-out baseline is its own reward.
    """
    rewards = {i: reward_less_kl(answers[i], settings) for own in groups.values() for i in own}
    spreads = {group: sample_std([rewards[i] for i in own]) for group, own in groups.items()}
    if settings.pass_at_k > 1:
        for group, own in groups.items():
            raised, spreads[group] = best_of_k([rewards[i] for i in own], settings.pass_at_k)
            rewards.update(zip(own, raised, strict=True))

    batch = list(rewards.values())
    result = {}
    for group, own in groups.items():
        group_mean = fmean(rewards[i] for i in own)
        for i in own:
            others = [rewards[j] for j in own if j != i] or [rewards[i]]
            baseline = {"group": group_mean, "leave_one_out": fmean(others), "batch": fmean(batch)}[settings.baseline]
            scale = {
                "group": spreads[group] + STD_EPSILON,
                "batch": sample_std(batch) + STD_EPSILON,
                "mean": group_mean if group_mean > 0 else math.inf,  # a group without reward teaches nothing
                "none": 1.0,
            }[settings.scale_rewards]
            result[i] = (rewards[i] - baseline) / scale
    return result


def best_of_k(rewards: Sequence[float], k: int) -> tuple[list[float], float]:
    """The expected best reward of a random k-subset that contains i, for each i; the best's std over all k-subsets.

    Pass@k training, arXiv 2508.10751 (its analytic form is this for binary rewards, with the population std), for real
    rewards as in PKPO, 2505.15201, whose estimator is k / n of it. Where fewer than k are scored, all of them are the
    one subset.
    """
    subsets = list(combinations(range(len(rewards)), min(k, len(rewards))))
    best = [max(rewards[j] for j in subset) for subset in subsets]
    raised = [
        fmean(value for value, subset in zip(best, subsets, strict=True) if i in subset) for i in range(len(rewards))
    ]
    return raised, pstdev(best)


def decoupled_advantages(
    answers: Sequence[Answer], groups: Mapping[int, list[int]], settings: Settings
) -> dict[int, float]:
    """GDPO, arXiv 2601.05242: each reward function is normalized in its group, then the weighted sums over the step."""
    if settings.pass_at_k > 1 or settings.kl_in == "reward":
        raise ValueError("normalize_then_sum does not use the summed reward, which pass_at_k and kl_in: reward change")
    sums = dict.fromkeys((i for own in groups.values() for i in own), 0.0)
    for own in groups.values():
        for name, weight in settings.reward_weights.items():
            scores = [answers[i].scores[name] for i in own]
            for i, score in zip(own, scores, strict=True):
                sums[i] += weight * (score - fmean(scores)) / (sample_std(scores) + STD_EPSILON)
    step = list(sums.values())
    return {i: (value - fmean(step)) / (sample_std(step) + STD_EPSILON) for i, value in sums.items()}


def sample_std(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def reward_less_kl(answer: Answer, settings: Settings) -> float:
    """The reward, with ``kl_in: reward`` less beta times the answer's KL: of the policy that sampled, over its tokens
    in the loss. There is no gradient in it, and the ratio of `kl_importance_correction` is 1 at that version."""
    assert answer.reward is not None
    if settings.kl_in == "loss":
        return answer.reward
    tokens = make_tokens(answer, settings).values()
    kl = sum(kl_estimate(constant(token.old - token.ref), settings).item() for token in tokens)
    return answer.reward - settings.beta * kl


# ---------------------------------------------------------------- the policy term, before the correction


def policy_terms(tokens: list[Token], advantage: float, settings: Settings) -> list[Tensor]:
    """What each token of one answer adds to the loss. In gspo and gmpo every token carries its answer's term."""
    if settings.policy_loss == "gspo":
        return [clip(sequence_ratio(tokens), advantage, settings)] * len(tokens)
    if settings.policy_loss == "gmpo":
        return [gmpo(tokens, advantage, settings)] * len(tokens)
    if settings.policy_loss == "gspo_token":
        # arXiv 2507.18071 eq. 14: the sequence's ratio in value, the token's in gradient
        value = sequence_ratio(tokens).item()
        return [clip(value * torch.exp(t.policy - t.policy.item()), advantage, settings) for t in tokens]
    return [token_term(token, advantage, settings) for token in tokens]


def token_term(token: Token, advantage: float, settings: Settings) -> Tensor:
    """The losses in which tokens do not know of each other."""
    ratio = torch.exp(token.log_ratio)
    if settings.policy_loss == "clip":
        return clip(ratio, advantage, settings)
    if settings.policy_loss == "cispo":
        # MiniMax-M1, arXiv 2506.13585 eq. 4 and 5: the clipped ratio is a weight, no token loses its gradient
        weight = min(max(ratio.item(), 1 - settings.epsilon), 1 + settings.epsilon_high)
        return -weight * advantage * token.policy
    if settings.policy_loss == "sapo":
        # arXiv 2511.20347: a soft gate whose slope at ratio 1 is 1, whatever the temperature
        temperature = settings.sapo_temperature_pos if advantage > 0 else settings.sapo_temperature_neg
        gate = 1 / (1 + torch.exp(-temperature * (ratio - 1)))
        return -(4 / temperature) * gate * advantage
    if settings.policy_loss == "reinforce":
        return -advantage * token.policy
    return dppo(token, advantage, settings)


def clip(ratio: Tensor, advantage: float, settings: Settings) -> Tensor:
    """PPO, arXiv 1707.06347 eq. 7, with DAPO's second bound, 2503.14476 eq. 10: the lesser gain of the two.

    ``delta`` also bounds the ratio where the advantage is negative: dual clip, 1912.09729, INTELLECT-2, 2505.07291.
    """
    free, clipped = ratio, ratio
    if settings.delta is not None and ratio > settings.delta:
        free = constant(settings.delta)
    if ratio < 1 - settings.epsilon:
        clipped = constant(1 - settings.epsilon)
    if ratio > 1 + settings.epsilon_high:
        clipped = constant(1 + settings.epsilon_high)
    return -free * advantage if free * advantage <= clipped * advantage else -clipped * advantage


def sequence_ratio(tokens: list[Token]) -> Tensor:
    """GSPO, arXiv 2507.18071 eq. 7: the geometric mean of the ratios of the answer's tokens in the loss."""
    total = constant(0.0)
    for token in tokens:
        total = total + token.log_ratio
    return torch.exp(total / len(tokens))


def gmpo(tokens: list[Token], advantage: float, settings: Settings) -> Tensor:
    """GMPO, arXiv 2507.20673: each log-ratio is clipped where that lessens the gain, then the geometric mean is taken.

    Here ``epsilon`` and ``epsilon_high`` bound the logarithm of the ratio (the paper: 0.4).
    """
    total = constant(0.0)
    for token in tokens:
        log_ratio = token.log_ratio
        if advantage > 0 and log_ratio > settings.epsilon_high:
            log_ratio = constant(settings.epsilon_high)
        if advantage < 0 and log_ratio < -settings.epsilon:
            log_ratio = constant(-settings.epsilon)
        total = total + log_ratio
    return -torch.exp(total / len(tokens)) * advantage


def dppo(token: Token, advantage: float, settings: Settings) -> Tensor:
    """DPPO, arXiv 2602.04879, binary total variation: no gain from a token whose probability has already moved by more
    than the threshold in the direction the advantage wants. The paper's anchor is the engine: ``old: behavior``."""
    moved = math.exp(token.policy.item()) - math.exp(token.old)
    if (advantage > 0 and moved > settings.dppo_threshold) or (advantage < 0 and moved < -settings.dppo_threshold):
        return constant(0.0)
    return -torch.exp(token.log_ratio) * advantage


# ---------------------------------------------------------------- what multiplies or silences the policy term


def correction_weights(tokens: list[Token], settings: Settings) -> list[float]:
    """Importance weights between engine and learner, without gradient, one per token.

    Kept apart from the ratio as in AReaL, arXiv 2505.24298; truncated as in FlashRL's note on it; masked: IcePop,
    2510.18855. The sequence modes weigh with the product over the answer's tokens in the loss. The numerator is the
    old policy; for reinforce, which has no ratio of its own, the policy now, also where ``old: behavior`` leaves
    nothing to correct for the others.
    """
    reinforce = settings.policy_loss == "reinforce"
    if not settings.importance_sampling_correction or (settings.old == "behavior" and not reinforce):
        return [1.0] * len(tokens)
    logs = [(token.policy.item() if reinforce else token.old) - token.behavior for token in tokens]
    level, bound = settings.importance_sampling_mode.split("_")
    if level == "sequence":
        logs = [sum(logs)] * len(tokens)
    weights = [math.exp(log) for log in logs]
    if bound == "truncate":
        return [min(weight, settings.importance_sampling_cap) for weight in weights]
    low, high = settings.importance_sampling_min, settings.importance_sampling_cap
    return [weight if low <= weight <= high else 0.0 for weight in weights]


def keeps_sequence(tokens: list[Token], advantage: float, settings: Settings) -> bool:
    """DeepSeek-V3.2, arXiv 2512.02556 eq. 9: bad answers that the policy has left far behind are not learned from."""
    if settings.off_policy_mask_threshold is None or advantage >= 0:
        return True
    return fmean(t.behavior - t.policy.item() for t in tokens) <= settings.off_policy_mask_threshold


def entropy_threshold(entropies: list[float], settings: Settings) -> float:
    """The least entropy that counts: the (1 - q)-quantile of the update's tokens, linear between ranks (arXiv
    2506.01939; the interpolation is TRL's)."""
    if settings.top_entropy_quantile == 1.0 or not entropies:
        return -math.inf
    ranked = sorted(entropies)
    place = (1 - settings.top_entropy_quantile) * (len(ranked) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (place - below) * (ranked[above] - ranked[below])


# ---------------------------------------------------------------- KL


def kl_term(token: Token, settings: Settings) -> Tensor:
    """KL of one token in the loss. With the correction, the ratio to the old policy multiplies it and has a gradient
    too (DeepSeek-V3.2, arXiv 2512.02556 eq. 7)."""
    estimate = kl_estimate(token.policy - token.ref, settings)
    return torch.exp(token.log_ratio) * estimate if settings.kl_importance_correction else estimate


def kl_estimate(log_ratio: Tensor, settings: Settings) -> Tensor:
    """Of KL(policy || reference) from one sample, `log_ratio` = log policy - log reference (Schulman's k1, k2, k3)."""
    if settings.kl_estimator == "k1":
        return log_ratio
    if settings.kl_estimator == "k2":
        return log_ratio**2 / 2
    return torch.exp(-log_ratio) - 1 + log_ratio
