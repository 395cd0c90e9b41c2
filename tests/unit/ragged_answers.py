"""Seeded answers on which every part of the objective has something to do, for the tests against `brute_force`."""

import numpy as np
import numpy.typing as npt

from tests.unit.brute_force import REWARD_WEIGHTS, Answer


def make_answers(seed: int = 0) -> list[Answer]:
    """64 answers in 8 groups of 8, with everything that an objective can get wrong.

    1 to 40 tokens long; truncated, unscored and multi-turn answers; groups of binary, real, equal and negative rewards,
    one in which only three are scored. Ratios lie on both sides of every bound. Every number of a token is exact in
    float32, so an implementation that keeps some in float32 reads the same value.
    """
    rng = np.random.default_rng(seed)
    answers = []
    for group, kind in enumerate(("binary", "equal", "real", "rare", "negative", "binary", "real", "binary")):
        unscored = {2: 1, 5: 2, 6: 5}.get(group, 0)
        for member in range(8):
            scores = make_scores(rng, kind, member) if member >= unscored else {}
            reward = sum(REWARD_WEIGHTS[name] * score for name, score in scores.items()) if scores else None
            answers.append(make_answer(rng, group, scores, reward, truncated=member == 7 and group % 2 == 0))
    return answers


def make_scores(rng: np.random.Generator, kind: str, member: int) -> dict[str, float]:
    accuracy = {
        "binary": float(member % 3 == 0),
        "equal": 1.0,
        "real": float(rng.uniform(0.0, 1.0)),
        "rare": float(member == 4),
        "negative": -float(rng.uniform(0.0, 1.0)),
    }[kind]
    return {"accuracy": accuracy, "format": 1.0 if kind == "equal" else float(member % 2)}


def make_answer(
    rng: np.random.Generator, group: int, scores: dict[str, float], reward: float | None, *, truncated: bool
) -> Answer:
    length = 40 if truncated else min(1 + int(rng.exponential(10.0)), 40)
    behavior = -rng.exponential(1.0, length)
    mismatch = float(rng.choice([0.02, 0.1, 0.5]))  # the engine's of this answer, so that some products stay near 1
    old = np.minimum(behavior + rng.normal(0.0, mismatch, length), -1e-3)
    drift = rng.normal(0.0, 0.3) + rng.normal(0.0, 0.3, length)
    leap = rng.choice([0.0, -1.8, 1.8], length, p=[0.9, 0.05, 0.05])
    policy = np.minimum(old + drift + leap, -1e-3)
    ref = np.minimum(old + rng.normal(0.0, 0.5, length), -1e-3)
    environment = np.zeros(length, dtype=bool)
    if length >= 6 and rng.random() < 0.3:
        environment[length // 3 : length // 2] = True
    return Answer(
        group=group,
        reward=reward,
        scores=scores,
        policy_logprobs=float32_values(policy),
        old_logprobs=float32_values(old),
        behavior_logprobs=float32_values(np.where(environment, 0.0, behavior)),  # the engine has none to report
        ref_logprobs=float32_values(ref),
        entropies=float32_values(rng.gamma(1.5, 0.6, length)),
        from_environment=environment.tolist(),
        truncated=truncated,
    )


def float32_values(values: npt.NDArray[np.float64]) -> list[float]:
    return [float(np.float32(value)) for value in values]
