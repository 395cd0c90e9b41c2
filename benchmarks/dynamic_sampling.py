"""Does dynamic sampling bias the gradient? Its direction and size, with three ways to fill a step, on one policy.

    python benchmarks/dynamic_sampling.py [--quick] [--model FOLDER]

One policy (the packaged base model, or a trained one) answers a stream of problems, and the gradient of every group is
kept apart. Steps are then put together from the same groups: ``all`` takes the next 16 problems, those that teach
nothing included in the denominator; ``refilled`` is DAPO's dynamic sampling as this package has it: groups that teach
nothing are replaced by the next problems in the stream's order; ``by arrival`` takes the groups that teach something in
the order in which they would be finished, shortest longest answer first, of twice as many in flight. Cosines compare
mean gradients; that of two halves of ``all`` says how much of a cosine is noise.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from report import Row, print_report
from runs import RECIPES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from grpo.advantages import has_variance, ready_group, to_samples, with_advantages  # noqa: E402
from grpo.assembly import engine_of, origin_of  # noqa: E402
from grpo.data import load_data  # noqa: E402
from grpo.datatypes import Group  # noqa: E402
from grpo.datatypes import Row as PackedRow
from grpo.engine.protocol import Sampling  # noqa: E402
from grpo.learner import Policy  # noqa: E402
from grpo.learner.mesh import ALONE  # noqa: E402
from grpo.models import resolve_model  # noqa: E402
from grpo.packing import pack  # noqa: E402
from grpo.prompts import Prompts  # noqa: E402
from grpo.recipe import Recipe, load_recipe  # noqa: E402
from grpo.rollout import Rollout  # noqa: E402
from grpo.scoring import Scorer  # noqa: E402

GROUPS_PER_STEP = 16


@dataclass(frozen=True, slots=True)
class Part:
    """What one group adds to a step: its summed gradient and its loss tokens; a gradient of None is zero."""

    gradient: torch.Tensor | None
    num_tokens: int
    pass_rate: float
    longest: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--model", default="tiny-base", help="the policy; a trained one has more groups without variance"
    )
    args = parser.parse_args()
    recipe = load_recipe(RECIPES / "quickstart.yaml", [f"model={args.model}"])
    parts = list(parts_of(recipe, 64 if args.quick else 768))
    print_report("dynamic_sampling", rows_of(parts))


def rows_of(parts: Sequence[Part]) -> list[Row]:
    teaching = [part for part in parts if part.gradient is not None]
    every, refilled = mean_gradient(blocks(parts)), mean_gradient(blocks(teaching))
    hasty = [part for block in blocks(parts, 2 * GROUPS_PER_STEP) for part in first_to_finish(block)]
    by_arrival = mean_gradient(blocks(hasty))
    halves = [mean_gradient(blocks(parts)[half::2]) for half in (0, 1)]
    lengths = [np.mean([part.num_tokens for part in chosen]) for chosen in (teaching, hasty)]
    rates = [np.mean([part.pass_rate for part in chosen]) for chosen in (teaching, hasty)]
    return [
        Row("groups that teach", len(teaching) / len(parts), "share"),
        Row("cosine of two halves of `all` (noise)", cosine(*halves), ""),
        Row("cosine of `refilled` and `all`", cosine(refilled, every), ""),
        Row("cosine of `by arrival` and `all`", cosine(by_arrival, every), ""),
        Row("size of `refilled` over `all`", float(refilled.norm() / every.norm()), "ratio"),
        Row("size of `by arrival` over `all`", float(by_arrival.norm() / every.norm()), "ratio"),
        Row("tokens of a group, `by arrival` over `refilled`", float(lengths[1] / lengths[0]), "ratio"),
        Row("pass rate of groups, `refilled`", float(rates[0]), "share"),
        Row("pass rate of groups, `by arrival`", float(rates[1]), "share"),
    ]


def blocks(parts: Sequence[Part], size: int = GROUPS_PER_STEP) -> list[Sequence[Part]]:
    """Whole steps, in order."""
    return [parts[at : at + size] for at in range(0, len(parts) - size + 1, size)]


def first_to_finish(block: Sequence[Part]) -> list[Part]:
    ready = [part for part in sorted(block, key=lambda part: part.longest) if part.gradient is not None]
    return ready[: GROUPS_PER_STEP // 2]


def mean_gradient(steps: Sequence[Sequence[Part]]) -> torch.Tensor:
    """Over steps, each divided by the loss tokens of its own groups (``loss_type: dapo``)."""
    total = None
    for step in steps:
        num_tokens = sum(part.num_tokens for part in step)
        for part in step:
            if part.gradient is not None:
                share = part.gradient.double() / num_tokens / len(steps)
                total = share if total is None else total + share
    assert total is not None, "some group of the stream teaches something"
    return total


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


def parts_of(recipe: Recipe, num_groups: int) -> Iterator[Part]:
    """Each group's part, in the order of the stream, all sampled by the policy as it is."""
    policy = origin_of(recipe, None).load(ALONE)
    for group in sampled(recipe, num_groups):
        rewards_G = group.rewards_G  # noqa: N806
        num_tokens = sum(int(member.completion.loss_mask.sum()) for member in group.scored)
        longest = max(member.completion.num_tokens for member in group.members)
        gradient = gradient_of(policy, group, recipe) if has_variance(rewards_G) else None
        yield Part(gradient, num_tokens, group.pass_rate, longest)


def sampled(recipe: Recipe, num_groups: int) -> Iterator[Group]:
    prompts = Prompts.of(recipe)
    scorer = Scorer(recipe.rewards, recipe.scoring, seed=recipe.seed)
    dataset = load_data(recipe.data, seed=recipe.seed, check_reference=scorer.check_reference)
    limits = Sampling(max_tokens=recipe.rollout.max_completion_length, stop_token_ids=prompts.end_token_ids)

    def prompt_at(ordinal: int):  # noqa: ANN202 - a Prompt
        problem, attempt = dataset.train.problem(ordinal)
        return prompts.encode(problem, ordinal=ordinal, attempt=attempt)

    with (
        tempfile.TemporaryDirectory() as logs,
        engine_of(recipe, prompts, resolve_model(recipe.model), None, logs=Path(logs), report=print) as engine,
    ):
        rollout = Rollout(
            engine=engine,
            prompt_at=prompt_at,
            score_all=scorer.score_all,
            sampling=limits,
            num_generations=recipe.rollout.num_generations,
            seed=recipe.seed,
        )
        for start in range(0, num_groups, GROUPS_PER_STEP):
            yield from rollout.sample(range(start, start + GROUPS_PER_STEP))
    scorer.close()


def gradient_of(policy: Policy, group: Group, recipe: Recipe) -> torch.Tensor:
    """Of the sum over the group's tokens of -A log policy, as one vector."""
    samples = to_samples(group, mask_truncated=False)
    samples = with_advantages([ready_group(group, samples, np.zeros(len(samples)))], recipe.algorithm, {})
    batch = pack(samples, "dapo", max_completion_length=1, row_tokens=recipe.learner.row_tokens)

    def loss_of(row: PackedRow, logprobs_N: torch.Tensor, _entropies_N: torch.Tensor) -> torch.Tensor:  # noqa: N803
        advantages_N = torch.from_numpy(row.advantages_T[row.loss_mask_T])  # noqa: N806
        return -(advantages_N * logprobs_N).sum()

    policy.model.zero_grad(set_to_none=True)
    policy.backward(batch.rows, loss_of, temperature=1.0, after_row=lambda: None)
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])


if __name__ == "__main__":
    main()
