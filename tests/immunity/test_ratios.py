"""Ratios between the engine and the learner that are wrong, or that throw answers away unseen."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grpo.advantages import to_samples
from grpo.datatypes import Group, Sample
from grpo.engine.protocol import Request, Sampling
from grpo.engine.transformers_engine import TransformersEngine
from grpo.errors import RecipeError
from grpo.learner import Learner
from grpo.recipe import with_overrides
from grpo.step_metrics import learning_metrics
from tests.factories import make_prompt, make_recipe, make_sample, make_scored
from tests.immunity.runs import learner_of, make_trainer, run_recipe, train


def metrics_of(learner: Learner, samples: Sequence[Sample]) -> dict[str, float]:
    return learning_metrics(samples, learner.step([replace(s, advantage=0.0) for s in samples]), version=0)


@pytest.mark.parametrize("narrowed", ["rollout.top_p=0.9", "rollout.top_k=20"])
@pytest.mark.parametrize(
    "algorithm",
    [
        (),
        ("algorithm.importance_sampling_correction=false", "algorithm.off_policy_mask_threshold=0.5"),
        ("algorithm.importance_sampling_correction=false", "algorithm.old=behavior"),
    ],
)
def test_a_ratio_to_answers_drawn_from_a_part_of_the_vocabulary_is_refused(
    narrowed: str, algorithm: tuple[str, ...]
) -> None:
    with_overrides(make_recipe(), algorithm)
    with pytest.raises(RecipeError, match="outside the set of tokens that was sampled from"):
        with_overrides(make_recipe(), (narrowed, *algorithm))
    with_overrides(make_recipe(), (narrowed, "algorithm.importance_sampling_correction=false"))


def test_past_that_refusal_the_ratio_is_the_mass_that_was_kept_and_is_logged(dense_folder: Path) -> None:
    """The thread's own arithmetic, on real answers: the mean of old/behavior falls well below 1 at the same weights."""
    learner = learner_of(dense_folder, make_recipe())
    for top_p, least, most in ((1.0, 0.999, 1.001), (0.5, 0.3, 0.7)):
        engine = TransformersEngine(learner.policy.model, rollout=make_recipe().rollout, decode=str)
        prompt, sampling = make_prompt(), Sampling(max_tokens=12, top_p=top_p)
        requests = [Request(prompt=prompt, sample_index=i, seed=i, sampling=sampling) for i in range(16)]
        group = Group(prompt=prompt, members=tuple(make_scored(answer, 0.0) for answer in engine.sample(requests)))
        values = metrics_of(learner, to_samples(group, mask_truncated=False))
        assert least < values["sampling/importance_sampling_ratio/mean"] < most


def long_answer(learner: Learner, difference: float) -> Sample:
    """100 tokens, of each of which the engine is this much less sure than the learner, in nats."""
    sample = make_sample(np.random.default_rng(0), num_tokens=100, old=False)
    own = np.concatenate([[0.0], learner.policy.score(sample.token_ids_L.tolist())])
    return replace(sample, behavior_logprobs_L=(own - difference).astype(np.float32))


def test_tiny_differences_multiplied_over_a_long_answer_are_seen_to_drop_it(dense_folder: Path) -> None:
    """0.012 nats a token are exp(1.2) = 3.3 over 100: beyond a cap of 3 the whole answer is masked out."""
    masks = {"importance_sampling_mode": "sequence_mask", "importance_sampling_cap": 3.0}
    learner = learner_of(dense_folder, make_recipe(algorithm=masks))
    answer = long_answer(learner, 0.012)
    assert metrics_of(learner, [answer])["sampling/dropped"] == 1.0
    by_default = metrics_of(learner_of(dense_folder, make_recipe()), [answer])
    assert by_default["sampling/dropped"] == 0.0
    assert by_default["sampling/importance_sampling_ratio/max"] == pytest.approx(np.exp(0.012), rel=1e-3)


def test_an_engine_that_routes_to_other_experts_sets_off_the_alarm(
    moe_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only while it samples: the weights are the learner's, and every publish is proven."""
    recipe = run_recipe(max_steps=2)
    train(make_trainer(tmp_path / "right", moe_folder, recipe))
    assert "alarm" not in capsys.readouterr().out

    forward = TransformersEngine._forward

    def misrouted(self: TransformersEngine, *args: torch.Tensor) -> torch.Tensor:
        routers = [module.gate.weight.data for module in self._model.modules() if hasattr(module, "experts")]
        assert routers
        for weight in routers:
            weight.neg_()  # the least likely experts are now the likeliest
        try:
            return forward(self, *args)
        finally:
            for weight in routers:
                weight.neg_()

    monkeypatch.setattr(TransformersEngine, "_forward", misrouted)
    train(make_trainer(tmp_path / "wrong", moe_folder, recipe))
    assert "alarm at step 1: engine and learner differ by" in capsys.readouterr().out
