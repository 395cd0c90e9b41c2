"""Estimators over the answers to one problem, and bootstrap intervals over problems. Pure."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

NUM_RESAMPLES = 1000
COVERAGE = 0.95


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The chance that k of the n answers, drawn without replacement, include a correct one.

    Unbiased for the chance that one of k fresh answers is correct: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021,
    "Evaluating Large Language Models Trained on Code", section 2.1).

    >>> pass_at_k(4, 1, 2)
    0.5

    Raises:
        ValueError: not 1 <= k <= n, or not 0 <= c <= n.
    """
    if not (1 <= k <= num_samples and 0 <= num_correct <= num_samples):
        raise ValueError(f"k = {k} of n = {num_samples} answers, {num_correct} correct: need 1 <= k <= n, 0 <= c <= n")
    return 1 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def majority_at_k(votes: Sequence[str | None], correct: Sequence[bool], k: int) -> float:
    """The chance that the most frequent answer among k of the n, drawn without replacement, is correct.

    ``votes`` are canonical answers, None for one that could not be read: it is drawn like any other and has no
    vote. Between answers that tie each is taken with equal chance. Exact (no sampling), for n up to 1,000; a k of
    which none votes counts as wrong.

    >>> majority_at_k(["4", "4", "5"], [True, True, False], 3)
    1.0
    >>> majority_at_k(["4", "5", None], [True, False, False], 2)
    0.5

    Raises:
        ValueError: not 1 <= k <= n, or the two sequences differ in length.
    """
    if not (1 <= k <= len(votes) == len(correct)):
        raise ValueError(f"k = {k} of {len(votes)} votes and {len(correct)} judgements: need 1 <= k <= n, as many each")
    judged: dict[str, list[bool]] = {}
    for vote, right in zip(votes, correct, strict=True):
        if vote is not None:
            judged.setdefault(vote, []).append(right)
    counts = {vote: len(rights) for vote, rights in judged.items()}
    silent = len(votes) - sum(counts.values())
    wins = 0.0
    for vote, rights in judged.items():
        if any(rights):
            rivals = [count for other, count in counts.items() if other != vote]
            wins += _winning_draws(counts[vote], rivals, silent, k) * sum(rights) / len(rights)
    return wins / math.comb(len(votes), k)


def _winning_draws(count: int, rivals: Sequence[int], silent: int, k: int) -> float:
    """How many draws of k an answer given ``count`` times wins; a draw that t others tie counts 1 / (t + 1).

    For each number of votes that wins, ``ways[t, d]`` counts the draws of d answers from the rivals seen so far in
    which none has more votes and t have as many. A rival given fewer times than that cannot tie: its answers are as
    good as silent, which leaves few rivals to go through.
    """
    total = 0.0
    for winning in range(1, min(count, k) + 1):
        rest = k - winning
        harmless = silent + sum(rival for rival in rivals if rival < winning)
        ways = np.zeros((rest // winning + 1, rest + 1))
        ways[0, 0] = 1
        for rival in rivals:
            if rival >= winning:
                ways = _with_rival(ways, rival, winning)
        fillings = np.array([math.comb(harmless, rest - drawn) for drawn in range(rest + 1)], dtype=np.float64)
        shares = 1 / np.arange(1, len(ways) + 1)
        total += math.comb(count, winning) * float(shares @ (ways @ fillings))
    return total


def _with_rival(ways: Float64Array, rival: int, winning: int) -> Float64Array:
    """``ways`` with one more rival, given at least ``winning`` times."""
    num_drawn = ways.shape[1]
    joined = ways.copy()  # the rival draws no vote
    for votes in range(1, min(winning, num_drawn)):
        joined[:, votes:] += math.comb(rival, votes) * ways[:, : num_drawn - votes]
    if num_drawn > winning:
        joined[1:, winning:] += math.comb(rival, winning) * ways[:-1, : num_drawn - winning]
    return joined


def ratios(numerators_PS: Float64Array, denominators_PS: Float64Array) -> Float64Array:
    """Each statistic's sum of numerators over sum of denominators, shape (S,); NaN where nothing was counted."""
    return _divide(numerators_PS.sum(axis=0), denominators_PS.sum(axis=0))


def bootstrap_intervals(
    numerators_PS: Float64Array,
    denominators_PS: Float64Array,
    *,
    seed: int,
) -> Float64Array:
    """95% percentile intervals of ``ratios`` when P problems are redrawn with replacement; shape (S, 2).

    All statistics see the same 1,000 resamples. NaN where no resample counted anything.
    """
    num_problems = len(numerators_PS)
    rng = np.random.default_rng(seed)
    draws_BP = rng.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=NUM_RESAMPLES)
    draws = draws_BP.astype(np.float64)
    values = _divide(draws @ numerators_PS, draws @ denominators_PS)
    tails = ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2)
    bounds = [
        np.quantile(column[~np.isnan(column)], tails) if (~np.isnan(column)).any() else (np.nan, np.nan)
        for column in values.T
    ]
    return np.array(bounds, dtype=np.float64).reshape(-1, 2)


def _divide(numerators: Float64Array, denominators: Float64Array) -> Float64Array:
    empty = denominators == 0
    return np.where(empty, np.nan, numerators / np.where(empty, 1, denominators))
