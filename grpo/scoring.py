"""Completions -> ScoredCompletions: every reward function of the recipe, while the engine goes on sampling.

A verifier that answers at once runs as each completion arrives; one with processes of its own (``placement`` pool or
service) is asked from threads, as many as it has processes. One that judges a whole group is asked when the group's
last answer is there, one that judges a batch when the engine is done. Verdicts do not depend on the order in which
they are given.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from grpo.datatypes import Completion, Prompt, ScoredCompletion
from grpo.errors import RecipeError
from grpo.judge import Judge, ScoringStats
from grpo.recipe import Audit, Reward, Scoring
from grpo.seeds import named_seed
from rewards import VERIFIERS, PluginVerifier, installed_rewards, make_verifier
from rewards.judges import with_workers
from rewards.verdict import Question, Status, Verdict, Verifier

_SEED_RANGE = 2**63


class Scorer:
    """Holds one verifier per reward of the recipe, and the auditor where one is asked for.

    The first reward is the one whose ``correct`` evaluation counts as right.

    Raises:
        RecipeError: a reward's function cannot be loaded, or its arguments are not among those it takes.
    """

    def __init__(
        self,
        rewards: Sequence[Reward],
        scoring: Scoring | None = None,
        *,
        seed: int = 0,
        prompt_text: Callable[[Prompt], str] | None = None,
    ) -> None:
        """``prompt_text``: a prompt as the model saw it, for functions that ask for it."""
        scoring = scoring or Scoring()
        self._rewards = tuple(rewards)
        self._seed = seed
        self._judges: dict[str, Judge] = {}
        self._auditor: Judge | None = None
        self._audit = scoring.audit
        self.stats = ScoringStats()
        for place, reward in enumerate(rewards):
            self._judges[reward.label] = Judge(make_reward(reward, scoring, key=f"rewards.{place}"))
        if scoring.audit is not None:
            self._auditor = Judge(make_reward(_as_reward(scoring.audit), scoring, key="scoring.audit"))
        is_read = any(isinstance(judge.verifier, PluginVerifier) for judge in self._all_judges())
        self._prompt_text = prompt_text if is_read else None  # decoding is work, and no other verifier reads it

    @property
    def accuracy(self) -> str:
        """Name of the reward that decides what is right."""
        return self._rewards[0].label

    def check_reference(self, reference: str) -> str | None:
        """None where every verifier can judge against it, else the first one's reason."""
        reasons = (judge.verifier.check_reference(reference) for judge in self._judges.values())
        return next((reason for reason in reasons if reason), None)

    def score_all(self, completions: Iterable[Completion], group_size: int) -> list[ScoredCompletion]:
        """Judge completions as they arrive; returned in that order when every verdict is there.

        A verdict without a score is asked for once more. An answer that still lacks one has no reward.
        """
        arrived: list[Completion] = []
        questions: list[Question] = []
        prompts: dict[str, str] = {}
        groups: dict[str, list[int]] = {}
        for place, completion in enumerate(completions):
            started = time.perf_counter()
            arrived.append(completion)
            questions.append(self._question(completion, prompts))
            group = groups.setdefault(completion.prompt.group_id, [])
            group.append(place)
            for judge in self._judges.values():
                if judge.verifier.scope == "sample":
                    judge.ask([place], arrived, questions)
                elif judge.verifier.scope == "group" and len(group) == group_size:
                    judge.ask(_in_order(group, arrived), arrived, questions)
            self.stats.seconds_waiting += time.perf_counter() - started
        started = time.perf_counter()
        incomplete = [group for group in groups.values() if len(group) != group_size]
        scored = self._finish(arrived, questions, incomplete)
        self.stats.seconds_waiting += time.perf_counter() - started
        return scored

    def take_stats(self) -> ScoringStats:
        """What was spent since the last call."""
        stats, self.stats = self.stats, ScoringStats()
        return stats

    def close(self) -> None:
        for judge in self._all_judges():
            judge.close()

    def _finish(
        self, arrived: Sequence[Completion], questions: Sequence[Question], incomplete: Sequence[Sequence[int]]
    ) -> list[ScoredCompletion]:
        """``incomplete``: the places of groups that an engine lost answers of, which a joint verdict still owes."""
        for judge in self._judges.values():
            joint = {"sample": [], "group": incomplete, "batch": [range(len(arrived))] if arrived else []}
            for places in joint[judge.verifier.scope]:
                judge.ask(_in_order(places, arrived), arrived, questions)
        self.stats.queue_depth += sum(judge.num_pending for judge in self._judges.values())
        verdicts = {name: judge.collect(self.stats) for name, judge in self._judges.items()}
        applying = self._applying(verdicts, arrived)
        scored = []
        for place, completion in enumerate(arrived):
            own = {name: by_place[place] for name, by_place in verdicts.items()}
            total = self._total(own, applying[completion.prompt.group_id])
            scored.append(ScoredCompletion(completion=completion, verdicts=own, reward=total))
        if self._auditor is not None:
            scored = self._audited(self._auditor, scored, questions)
        return scored

    def _applying(
        self, verdicts: Mapping[str, Mapping[int, Verdict]], arrived: Sequence[Completion]
    ) -> dict[str, set[str]]:
        """By group, the rewards that apply to its problem: a function that declines all its answers does not."""
        applying: dict[str, set[str]] = {completion.prompt.group_id: set() for completion in arrived}
        for name, by_place in verdicts.items():
            for place, verdict in by_place.items():
                if verdict.status is not Status.UNSCORED:
                    applying[arrived[place].prompt.group_id].add(name)
        return applying

    def _total(self, verdicts: Mapping[str, Verdict], applying: Collection[str]) -> float | None:
        """The weighted sum, times every gate: no credit without what a gate asks for. None without a needed score."""
        total, gate = 0.0, 1.0
        for reward in self._rewards:
            if reward.label not in applying or (reward.weight == 0 and not reward.gate):
                continue
            score = verdicts[reward.label].score
            if score is None:
                return None
            if reward.gate:
                gate *= min(max(score, 0.0), 1.0)
            else:
                total += reward.weight * score
        return gate * total if applying else None

    def _audited(
        self, auditor: Judge, scored: Sequence[ScoredCompletion], questions: Sequence[Question]
    ) -> list[ScoredCompletion]:
        """A share of the passes, drawn by the seed and the answer, judged again by a stronger verifier."""
        completions = [member.completion for member in scored]
        for place, member in enumerate(scored):
            if member.verdicts[self.accuracy].status is Status.CORRECT and self._is_audited(member.completion):
                auditor.ask([place], completions, questions)
        verdicts = auditor.collect(self.stats)
        return [replace(member, audit=verdicts.get(place)) for place, member in enumerate(scored)]

    def _is_audited(self, completion: Completion) -> bool:
        assert self._audit is not None
        drawn = named_seed("audit", self._seed, completion.prompt.group_id, completion.sample_index)
        return drawn < self._audit.share * _SEED_RANGE

    def _question(self, completion: Completion, prompts: dict[str, str]) -> Question:
        """``prompts``: those decoded so far, by group."""
        prompt, problem = completion.prompt, completion.prompt.problem
        if self._prompt_text is not None and prompt.group_id not in prompts:
            prompts[prompt.group_id] = self._prompt_text(prompt)
        return Question(
            text=problem.question,
            reference=problem.reference,
            columns=problem.columns,
            prompt=prompts.get(prompt.group_id, ""),
            completion_ids=completion.token_ids[completion.loss_mask].tolist(),
        )

    def _all_judges(self) -> list[Judge]:
        return [*self._judges.values(), *([self._auditor] if self._auditor else [])]


def make_reward(reward: Reward, scoring: Scoring, *, key: str) -> Verifier:
    """The verifier that a recipe's entry names, with the recipe's limits.

    Raises:
        RecipeError: its function cannot be loaded, or it does not take the arguments; ``key`` is where it stands.
    """
    try:
        if reward.fn is not None:
            return _plugin(reward.fn, reward, scoring)
        name = reward.name or ""
        if name not in VERIFIERS and name in (installed := installed_rewards()):
            return _plugin(installed[name], reward, scoring)
        return make_verifier(name, **with_workers(VERIFIERS, name, scoring.num_workers, reward.args))
    except ValueError as error:
        part = "fn" if reward.fn is not None and "args." not in str(error) else "args"
        value = reward.fn if part == "fn" else dict(reward.args)
        reason = str(error).removeprefix(f"fn = {reward.fn!r}: ")
        raise RecipeError(f"{key}.{part}", value, reason, "Mend the function or its arguments.") from error


def _plugin(fn: str, reward: Reward, scoring: Scoring) -> PluginVerifier:
    return PluginVerifier(
        fn,
        args=reward.args,
        name=reward.label,
        num_workers=scoring.num_workers,
        cpu_s=scoring.cpu_s,
        deadline_s=scoring.deadline_s,
        memory_mb=scoring.memory_mb,
        concurrency=scoring.concurrency,
    )


def _as_reward(audit: Audit) -> Reward:
    return Reward(name=audit.name, fn=audit.fn, args=audit.args)


def _in_order(places: Sequence[int], arrived: Sequence[Completion]) -> list[int]:
    """Of problem and sample, not of arrival: a joint verdict may hang on it."""
    return sorted(places, key=lambda place: (arrived[place].prompt.ordinal, arrived[place].sample_index))
