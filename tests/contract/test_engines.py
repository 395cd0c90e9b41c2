"""The contract of `grpo.engine.protocol.Engine`, the same for both engines, dense and mixture of experts."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from grpo.datatypes import Completion, Problem, Prompt
from grpo.engine import make_engine
from grpo.engine.protocol import Engine, Request, Sampling
from grpo.engine.transformers_engine import draw, filtered_logprobs
from grpo.errors import EngineError, MissingPackageError
from grpo.recipe import Rollout
from tests import tiny_models

SUBJECTS = [("transformers", "moe"), ("transformers", "dense"), ("vllm", "moe"), ("vllm", "dense")]
PROMPTS = ((5, 9, 2, 71), (5, 9, 2, 71, 33, 8), tuple(range(10, 31)))


@dataclass(frozen=True)
class Subject:
    """An engine, and the model whose answers it should give."""

    engine: Engine
    model: PreTrainedModel


def rollout(engine: Literal["vllm", "transformers"]) -> Rollout:
    return Rollout(engine=engine, problems_per_step=1, num_generations=2, max_completion_length=32, stop=["stop"])


@pytest.fixture(scope="module", params=SUBJECTS, ids="-".join)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    name, architecture = request.param
    if name == "vllm":
        pytest.importorskip("vllm", reason="vLLM is not installed", exc_type=ImportError)
    model = {"moe": tiny_models.make_moe, "dense": tiny_models.make_dense}[architecture]()
    engine = make_engine(
        model=tiny_models.save(model, tmp_path_factory.mktemp(architecture)),
        module=model,
        rollout=rollout(name),
        dtype="float32",
        max_model_len=tiny_models.WINDOW,
        decode=tiny_models.decode,
        on_gpu=False,
        seed=0,
    )
    yield Subject(engine, model)
    engine.close()


def make_prompt(token_ids: tuple[int, ...], problem_id: str = "p") -> Prompt:
    problem = Problem(problem_id=problem_id, question="", reference="")
    return Prompt(problem=problem, token_ids=token_ids, ordinal=0)


def make_requests(sampling: Sampling, seeds: range = range(6)) -> list[Request]:
    return [
        Request(
            prompt=make_prompt(token_ids, f"p{place}"), sample_index=seed, seed=1000 * place + seed, sampling=sampling
        )
        for place, token_ids in enumerate(PROMPTS)
        for seed in seeds
    ]


def answers(engine: Engine, requests: list[Request]) -> dict[tuple[str, int], Completion]:
    completions = list(engine.sample(requests))
    named = {(completion.prompt.problem.problem_id, completion.sample_index): completion for completion in completions}
    assert len(named) == len(completions) == len(requests), "each request is answered once"
    return named


def texts(named: dict[tuple[str, int], Completion]) -> dict[tuple[str, int], list[int]]:
    return {key: completion.token_ids.tolist() for key, completion in named.items()}


def test_an_answer_has_its_tokens_logprobs_text_and_version(subject: Subject) -> None:
    for completion in answers(subject.engine, make_requests(Sampling(max_tokens=12))).values():
        (segment,) = completion.segments
        assert segment.token_ids.dtype == np.int64
        assert segment.behavior_logprobs.dtype == np.float32
        assert completion.num_tokens == 12
        assert completion.finish_reason == "length"
        assert completion.text == tiny_models.decode(segment.token_ids.tolist())
        assert segment.version == subject.engine.version


def test_seeds_alone_decide_the_answers(subject: Subject) -> None:
    requests = make_requests(Sampling(max_tokens=12))
    first = answers(subject.engine, requests)
    again = answers(subject.engine, requests[::-1])
    assert texts(first) == texts(again)
    for key, completion in first.items():
        np.testing.assert_array_equal(completion.behavior_logprobs, again[key].behavior_logprobs)
    assert len({tuple(tokens) for tokens in texts(first).values()}) == len(requests), "seeds differ, so do answers"


def test_scoring_does_not_disturb_seeds(subject: Subject) -> None:
    requests = make_requests(Sampling(max_tokens=8))
    before = texts(answers(subject.engine, requests))
    subject.engine.score(PROMPTS[2])
    assert texts(answers(subject.engine, requests)) == before


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"),
    [(1.0, 1.0, 0), (0.6, 1.0, 0), (1.4, 0.7, 0), (1.0, 1.0, 5), (0.8, 0.9, 7)],
)
def test_behavior_logprobs_are_those_after_temperature_top_p_and_top_k(
    subject: Subject, temperature: float, top_p: float, top_k: int
) -> None:
    sampling = Sampling(max_tokens=12, temperature=temperature, top_p=top_p, top_k=top_k)
    for completion in answers(subject.engine, make_requests(sampling)).values():
        token_ids = [*completion.prompt.token_ids, *completion.token_ids.tolist()]
        logits_LV = tiny_models.reference_logprobs(subject.model, token_ids)[len(completion.prompt.token_ids) - 1 :]
        expected_LV = brute_force_filter(logits_LV, temperature, top_p, top_k)
        expected = expected_LV[torch.arange(12), torch.from_numpy(completion.token_ids)]
        np.testing.assert_allclose(completion.behavior_logprobs, expected.numpy(), atol=1e-4, rtol=0)


def brute_force_filter(logprobs_LV: torch.Tensor, temperature: float, top_p: float, top_k: int) -> torch.Tensor:
    """The definition, a token at a time: likeliest first, until k tokens or a probability of p are reached."""
    result_LV = torch.full_like(logprobs_LV, float("-inf"))
    for position, row_V in enumerate(logprobs_LV):
        probabilities_V = torch.softmax(row_V.double() / temperature, dim=-1)
        order = probabilities_V.argsort(descending=True).tolist()[: top_k or None]
        mass = sum(probabilities_V[token].item() for token in order)
        kept, reached = [], 0.0
        for token in order:
            kept.append(token)
            reached += probabilities_V[token].item() / mass
            if reached >= top_p:
                break
        share = sum(probabilities_V[token].item() for token in kept)
        result_LV[position, kept] = torch.log(probabilities_V[kept] / share).float()
    return result_LV


def test_temperature_zero_is_greedy(subject: Subject) -> None:
    named = answers(subject.engine, make_requests(Sampling(max_tokens=6, temperature=0.0), seeds=range(1)))
    for completion in named.values():
        token_ids = [*completion.prompt.token_ids, *completion.token_ids.tolist()]
        logprobs_LV = tiny_models.reference_logprobs(subject.model, token_ids)[len(completion.prompt.token_ids) - 1 :]
        assert completion.token_ids.tolist() == logprobs_LV.argmax(dim=-1).tolist()


def test_a_stop_token_ends_the_answer_and_stays_in_it(subject: Subject) -> None:
    free = answers(subject.engine, make_requests(Sampling(max_tokens=12)))
    stop = free[("p0", 0)].token_ids.tolist()[4]
    stopped = answers(subject.engine, make_requests(Sampling(max_tokens=12, stop_token_ids=(stop,))))
    for key, completion in free.items():
        tokens = completion.token_ids.tolist()
        cut = tokens.index(stop) + 1 if stop in tokens else len(tokens)
        assert stopped[key].token_ids.tolist() == tokens[:cut]
        assert stopped[key].finish_reason == ("stop" if stop in tokens else "length")


def test_score_is_the_models_own_at_temperature_1(subject: Subject) -> None:
    text = [int(token) for token in np.random.default_rng(0).integers(0, tiny_models.VOCABULARY, 40)]
    expected_LV = tiny_models.reference_logprobs(subject.model, text)
    expected = expected_LV.gather(-1, torch.tensor(text[1:])[:, None])[:, 0].numpy()
    scores = subject.engine.score(text)
    assert scores.shape == (39,)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-4, rtol=0)
    np.testing.assert_array_equal(subject.engine.score(text), scores, err_msg="a cached prefix changed the score")


def test_more_requests_than_fit_at_once_are_all_answered(subject: Subject) -> None:
    requests = make_requests(Sampling(max_tokens=2), seeds=range(50))
    assert len(answers(subject.engine, requests)) == 150


def test_a_prompt_longer_than_the_window_is_refused_by_name(subject: Subject) -> None:
    prompt = make_prompt((1,) * 200, "too-long")
    request = Request(prompt=prompt, sample_index=0, seed=0, sampling=Sampling(max_tokens=4))
    with pytest.raises(EngineError, match=r"too-long#0 has 200 tokens; .*window"):
        list(subject.engine.sample([request]))
    assert answers(subject.engine, make_requests(Sampling(max_tokens=2))), "the engine still serves others"


def test_an_answer_ends_where_the_window_does(subject: Subject) -> None:
    prompt = make_prompt((7,) * (tiny_models.WINDOW - 3))
    request = Request(prompt=prompt, sample_index=0, seed=0, sampling=Sampling(max_tokens=30))
    (completion,) = subject.engine.sample([request])
    assert completion.num_tokens == 3
    assert completion.finish_reason == "length"


def test_an_abandoned_iterator_leaves_nothing_behind(subject: Subject) -> None:
    requests = make_requests(Sampling(max_tokens=12))
    expected = texts(answers(subject.engine, requests))
    abandoned = subject.engine.sample(requests)
    next(abandoned)
    assert isinstance(abandoned, Generator)
    abandoned.close()
    assert texts(answers(subject.engine, requests)) == expected


def test_a_stop_text_ends_the_answer_and_stays_in_its_tokens(subject: Subject) -> None:
    free = answers(subject.engine, make_requests(Sampling(max_tokens=12)))
    stop = free[("p0", 0)].text[3:5]
    stopped = answers(subject.engine, make_requests(Sampling(max_tokens=12, stop=(stop,))))
    for key, completion in free.items():
        end = completion.text.find(stop) + len(stop) if stop in completion.text else len(completion.text)
        assert stopped[key].text == completion.text[:end]
        assert stopped[key].num_tokens == end
        assert stopped[key].finish_reason == ("stop" if stop in completion.text else "length")


def test_sampling_follows_the_filtered_distribution() -> None:
    logits_V = torch.tensor([2.0, 1.0, 0.0, -1.0, -8.0])
    rows = 20_000
    uniforms = torch.rand(rows, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens, logprobs = draw(logits_V.expand(rows, -1), uniforms, 0.9, 0.95, 3)
    expected_V = filtered_logprobs(logits_V[None], 0.9, 0.95, 3)[0]
    observed_V = torch.bincount(tokens, minlength=5) / rows
    assert torch.allclose(observed_V, expected_V.exp(), atol=0.012)
    assert torch.equal(logprobs, expected_V[tokens])


def test_a_draw_of_zero_takes_no_token_of_probability_zero() -> None:
    logits_RV = torch.tensor([[float("-inf"), 0.0, 0.0]])
    tokens, logprobs = draw(logits_RV, torch.zeros(1, dtype=torch.float64), 1.0, 1.0, 0)
    assert tokens.tolist() == [1]
    assert torch.isfinite(logprobs).all()


def test_without_vllm_the_message_names_the_extra_and_the_other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("grpo.engine.vllm_engine.in_process", "vllm"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    build: Callable[[], Engine] = lambda: make_engine(  # noqa: E731
        model="unused",
        module=torch.nn.Identity(),
        rollout=rollout("vllm"),
        dtype="float32",
        max_model_len=8,
        decode=tiny_models.decode,
        on_gpu=False,
        seed=0,
    )
    with pytest.raises(MissingPackageError, match=r"grpo\[cpu\].*rollout.engine: transformers"):
        build()
