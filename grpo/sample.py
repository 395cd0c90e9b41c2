"""``grpo sample``: ask a model or a run something, and have the answers judged where a reference is known."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import rich.console
from rich.text import Text

from grpo.assembly import check_devices
from grpo.check import check_window
from grpo.console import printable
from grpo.data import load_data
from grpo.datatypes import Completion, Problem, Prompt, ScoredCompletion
from grpo.engine.protocol import Request
from grpo.errors import DataError, UserError
from grpo.launch import engine_alone, over_model
from grpo.material import evaluation_sampling, scorer_of
from grpo.model_shape import read_shape
from grpo.prompts import Prompts
from grpo.recipe import Recipe
from grpo.scoring import Scorer
from grpo.seeds import named_seed
from rewards.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer. ``reward`` is None and ``verdicts`` are empty where there is no reference to judge it against."""

    text: str
    num_tokens: int
    finish_reason: str
    reward: float | None
    verdicts: Mapping[str, Verdict]

    def summary(self) -> str:
        """Such as ``number: correct 1, 12 tokens, stop``; where there is no score, why."""
        verdicts = (f"{name}: {verdict.status.value}{_score(verdict)}" for name, verdict in self.verdicts.items())
        return ", ".join((*verdicts, f"{self.num_tokens} tokens", self.finish_reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question, the prompt as the model saw it, and its answers."""

    question: str
    reference: str | None
    prompt: str
    answers: tuple[Answer, ...]

    def to_json(self) -> dict[str, Any]:
        """A form that JSON keeps as it is."""
        answers = [
            {
                "text": answer.text,
                "num_tokens": answer.num_tokens,
                "finish_reason": answer.finish_reason,
                "reward": answer.reward,
                "verdicts": {
                    name: {"score": verdict.score, "status": verdict.status.value, "extracted": verdict.extracted}
                    for name, verdict in answer.verdicts.items()
                },
            }
            for answer in self.answers
        ]
        return {"question": self.question, "reference": self.reference, "prompt": self.prompt, "answers": answers}


def sample(
    target: str,
    recipe: Recipe,
    questions: Sequence[str] = (),
    *,
    references: Sequence[str] | None = None,
    held_out: int = 0,
    num_samples: int = 4,
    temperature: float | None = None,
    max_tokens: int | None = None,
) -> list[Asked]:
    """Answers of a model, or of the newest whole checkpoint of a run folder, in the recipe's template.

    An answer's seed depends on the recipe's seed, the question and the answer's index: asked again, it is the same.

    Args:
        target: a run folder, a model folder or a hub id.
        references: one for each question; the recipe's rewards judge the answers against them.
        held_out: so many of the recipe's held-out problems are asked besides, with their references.
        temperature: absent, the recipe's ``evaluation.temperature``; 0 is greedy.
        max_tokens: of one answer; absent, the recipe's ``rollout.max_completion_length``.

    Raises:
        UserError: nothing is asked, a number is out of range, or ``target`` is no model.
        DataError: there are not as many references as questions, or a reward cannot judge against one.
    """
    _check(questions, references, held_out, num_samples, temperature, max_tokens)
    check_devices(recipe)
    recipe = _with_room(over_model(recipe, target), max_tokens)
    with contextlib.ExitStack() as stack:
        prompts = Prompts.of(recipe)
        scorer = scorer_of(recipe, prompts)
        stack.callback(scorer.close)
        asked = [*_own(questions, references, scorer), *_held_out(recipe, held_out, scorer)]
        encoded = [prompts.encode(problem, ordinal=place, attempt=0) for place, (problem, _) in enumerate(asked)]
        drawn = evaluation_sampling(recipe, prompts)
        if temperature is not None:
            drawn = replace(drawn, temperature=temperature)
        requests = [
            Request(prompt=prompt, sample_index=i, seed=_seed(recipe, prompt.problem, i), sampling=drawn)
            for prompt in encoded
            for i in range(num_samples)
        ]
        engine = stack.enter_context(engine_alone(recipe, prompts))
        arrived = sorted(engine.sample(requests), key=lambda answer: (answer.prompt.ordinal, answer.sample_index))
        judged = {place for place, (_, is_judged) in enumerate(asked) if is_judged}
        answers = list(_judged(arrived, judged, scorer, num_samples))
        return [_asked(prompt, place in judged, answers, prompts) for place, prompt in enumerate(encoded)]


def show(asked: Sequence[Asked]) -> None:
    """Print questions and answers; what a model wrote cannot move the cursor or colour the terminal."""
    out = rich.console.Console(highlight=False, markup=False, soft_wrap=True)
    for place, one in enumerate(asked):
        if place:
            out.print()
        out.print(Text(printable(one.prompt, out.encoding), style="dim"))
        if one.reference is not None:
            out.print(Text(f"reference: {printable(one.reference, out.encoding)}", style="dim"))
        for number, answer in enumerate(one.answers, start=1):
            out.print(Text(f"[{number}] {printable(answer.summary(), out.encoding)}", style="bold"))
            out.print(Text(printable(answer.text, out.encoding)))


def _check(
    questions: Sequence[str],
    references: Sequence[str] | None,
    held_out: int,
    num_samples: int,
    temperature: float | None,
    max_tokens: int | None,
) -> None:
    if not questions and not held_out:
        raise UserError("nothing is asked: give a question, or held-out problems of the recipe (--held-out 4)")
    if references is not None and len(references) != len(questions):
        raise DataError(
            f"{len(references)} references for {len(questions)} questions: give one --reference for each, in their "
            "order, or none"
        )
    for name, value, least in (
        ("-n", num_samples, 1),
        ("--max-tokens", max_tokens, 1),
        ("--temperature", temperature, 0),
        ("--held-out", held_out, 0),
    ):
        if value is not None and not least <= value < math.inf:
            raise UserError(f"{name} = {value}: must be a number from {least}. Use {max(1, least)}, say")


def _with_room(recipe: Recipe, max_tokens: int | None) -> Recipe:
    """The recipe with an engine whose window holds answers of ``max_tokens``."""
    if max_tokens is not None:
        longer = recipe.rollout.model_copy(update={"max_completion_length": max_tokens})
        recipe = recipe.model_copy(update={"rollout": longer})
    shape = read_shape(recipe.model)
    if shape is not None:
        check_window(recipe, shape)
    return recipe


def _own(questions: Sequence[str], references: Sequence[str] | None, scorer: Scorer) -> Iterator[tuple[Problem, bool]]:
    """The user's questions, and whether there is a reference to judge by."""
    for place, question in enumerate(questions):
        reference = references[place] if references is not None else ""
        if references is not None and (reason := scorer.check_reference(reference)):
            raise DataError(
                f"reference {reference!r}: the recipe's rewards cannot judge against it ({reason}). Give it in the "
                "form that the recipe's data has, or leave references out"
            )
        yield Problem(problem_id=f"asked/{place}", question=question, reference=reference), references is not None


def _held_out(recipe: Recipe, count: int, scorer: Scorer) -> Iterator[tuple[Problem, bool]]:
    if not count:
        return
    known = load_data(recipe.data, seed=recipe.seed, check_reference=scorer.check_reference).held_out
    if count > len(known):
        raise DataError(
            f"--held-out {count}: the recipe holds {len(known)} problems out (data.num_held_out). "
            f"Ask {len(known)} or fewer"
        )
    yield from ((problem, True) for problem in known[:count])


def _seed(recipe: Recipe, problem: Problem, index: int) -> int:
    return named_seed("ask", recipe.seed, problem.question, index)


def _judged(
    arrived: Sequence[Completion], judged: set[int], scorer: Scorer, num_samples: int
) -> Iterator[ScoredCompletion]:
    """All answers, in order of prompts; those without a reference have no verdict."""
    with_reference = [answer for answer in arrived if answer.prompt.ordinal in judged]
    scored = iter(scorer.score_all(with_reference, num_samples))
    for answer in arrived:
        is_judged = answer.prompt.ordinal in judged
        yield next(scored) if is_judged else ScoredCompletion(completion=answer, verdicts={}, reward=None)


def _asked(prompt: Prompt, is_judged: bool, answers: Sequence[ScoredCompletion], prompts: Prompts) -> Asked:
    own = [answer for answer in answers if answer.completion.prompt.ordinal == prompt.ordinal]
    return Asked(
        question=prompt.problem.question,
        reference=prompt.problem.reference if is_judged else None,
        prompt=prompts.decode(prompt.token_ids),
        answers=tuple(
            Answer(
                text=answer.completion.text,
                num_tokens=answer.completion.num_tokens,
                finish_reason=answer.completion.finish_reason,
                reward=answer.reward,
                verdicts=answer.verdicts,
            )
            for answer in own
        ),
    )


def _score(verdict: Verdict) -> str:
    if verdict.score is None:
        return f" ({verdict.reason})" if verdict.reason else ""
    return f" {verdict.score:.3g}"
