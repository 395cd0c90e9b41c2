"""A committed 50-step curve of the learner. A change of the objective, however small, bends it.

The task is a bandit whose expected reward is exact: after each prompt one answer token is right, and the curve's
``reward`` is the mean probability that the policy gives to it. Answers are drawn once, from a seed, not from the
policy, so that rounding on another machine cannot change what is learned from. To renew after a wanted change:

    python -m tests.golden.test_golden_curve
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from grpo.advantages import advantages_of_step
from grpo.datatypes import Sample
from grpo.learner import Learner, Policy
from grpo.recipe import Algorithm, parse_recipe
from tests.models import VOCABULARY, write_moe

CURVE = Path(__file__).parent / "curve.json"
NUM_STEPS, NUM_PROMPTS, NUM_ANSWERS = 50, 4, 6
TOLERANCE = 1e-3  # relative; rounding differs between machines by about 1e-5 here

RECIPE = """
model: unused
max_steps: 50
output_dir: unused
template: qa
data: {train: {path: arithmetic}}
rewards: [{name: number}]
rollout: {problems_per_step: 4, num_generations: 6, max_completion_length: 2, max_prompt_length: 8}
algorithm: {epsilon: 0.2, epsilon_high: 0.28, beta: 0.01, num_minibatches: 2, importance_sampling_correction: false}
learner: {learning_rate: 1e-3, warmup_steps: 5, row_tokens: 32}
"""


def prompts() -> np.ndarray:
    return np.random.default_rng(0).integers(2, VOCABULARY, (NUM_PROMPTS, 4))


def right_answers() -> np.ndarray:
    return np.random.default_rng(1).integers(2, VOCABULARY, NUM_PROMPTS)


def samples_of_step(step: int, algorithm: Algorithm) -> list[Sample]:
    rng = np.random.default_rng([2, step])
    samples = []
    for group, (prompt, right) in enumerate(zip(prompts(), right_answers(), strict=True)):
        answers = np.concatenate([[right], rng.integers(2, VOCABULARY, NUM_ANSWERS - 1)])
        (advantages,) = advantages_of_step([(answers == right).astype(np.float64)], algorithm)
        for index, (answer, advantage) in enumerate(zip(answers, advantages, strict=True)):
            samples.append(_sample(group, index, prompt, int(answer), float(advantage)))
    return samples


def _sample(group: int, index: int, prompt: np.ndarray, answer: int, advantage: float) -> Sample:
    token_ids = np.array([*prompt, answer, 1])
    return Sample(
        group_id=str(group),
        sample_index=index,
        prompt_length=len(prompt),
        token_ids_L=token_ids,
        loss_mask_L=np.array([False] * len(prompt) + [True, True]),
        behavior_logprobs_L=np.zeros(len(token_ids), np.float32),
        old_logprobs_L=None,
        advantage=advantage,
        version=0,
        truncated=False,
    )


def curve(folder: Path) -> list[dict[str, float]]:
    """Loss, gradient norm and expected reward of each step."""
    policy = Policy.load(str(write_moe(folder)), dtype=torch.float32, device="cpu")
    recipe = parse_recipe(RECIPE)
    learner = Learner(policy, recipe)
    points = []
    for step in range(NUM_STEPS):
        stats = learner.step(learner.with_old_logprobs(samples_of_step(step, recipe.algorithm)))
        points.append({"loss": stats.loss, "grad_norm": stats.grad_norm, "reward": expected_reward(policy)})
    return points


def expected_reward(policy: Policy) -> float:
    chances = [
        float(np.exp(policy.score([*prompt, right])[-1]))
        for prompt, right in zip(prompts(), right_answers(), strict=True)
    ]
    return float(np.mean(chances))


def test_fifty_steps_follow_the_committed_curve(tmp_path: Path) -> None:
    expected = json.loads(CURVE.read_text(encoding="utf-8"))
    found = curve(tmp_path)
    assert len(found) == len(expected) == NUM_STEPS
    for name in ("loss", "grad_norm", "reward"):
        np.testing.assert_allclose(
            [point[name] for point in found], [point[name] for point in expected], rtol=TOLERANCE, atol=1e-5
        )


def test_the_committed_curve_shows_learning() -> None:
    expected = json.loads(CURVE.read_text(encoding="utf-8"))
    assert expected[0]["reward"] < 0.2
    assert expected[-1]["reward"] > 0.8


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        CURVE.write_text(json.dumps(curve(Path(scratch)), indent=1) + "\n", encoding="utf-8")
