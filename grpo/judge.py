"""One verifier at work: asked now or in threads, twice where it gives no score, and what its verdicts took."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from grpo.datatypes import Completion
from rewards.verdict import JointVerifier, Question, Verdict, Verifier, failed

Answer = tuple[list[Verdict], int]  # and how many were asked for twice


@dataclass(slots=True)
class ScoringStats:
    """What a round of scoring took."""

    seconds_waiting: float = 0.0  # spent in verdicts, or waiting for them, while nothing else went on here
    seconds_busy: float = 0.0  # of all verifiers together
    num_verdicts: int = 0
    num_retried: int = 0
    num_replaced: int = 0  # verifier processes killed or dead, and replaced
    queue_depth: int = 0  # verdicts still owed when the last answer came in

    def metrics(self) -> dict[str, float]:
        return {
            "time/score_s": self.seconds_waiting,
            "verifier/per_second": self.num_verdicts / max(self.seconds_busy, 1e-9),
            "verifier/queue_depth": self.queue_depth,
            "verifier/retried": self.num_retried,
            "verifier/replaced": self.num_replaced,
        }


@dataclass(slots=True)
class Judge:
    """One verifier with the verdicts that it owes."""

    verifier: Verifier
    _threads: ThreadPoolExecutor | None = None
    _pending: list[tuple[list[int], "Future[Answer]"]] = field(default_factory=list)
    _given: dict[int, Verdict] = field(default_factory=dict)
    _num_retried: int = 0
    _num_replaced: int = 0  # reported so far
    _closed: bool = False

    def __post_init__(self) -> None:
        if self.verifier.placement != "inline":
            pool = getattr(self.verifier, "pool", None)
            num_threads = pool.num_workers if pool is not None else 1
            self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix=f"reward-{self.verifier.name}")

    def ask(self, places: Sequence[int], completions: Sequence[Completion], questions: Sequence[Question]) -> None:
        """Judge the policy's words in the completions at these places: now, or in a thread."""
        broken = {place: completions[place].failure for place in places if completions[place].failure}
        self._given.update({place: failed(f"the environment failed: {reason}") for place, reason in broken.items()})
        places = [place for place in places if place not in broken]
        if not places:
            return
        texts = [completions[place].policy_text for place in places]
        own = [questions[place] for place in places]
        if self._threads is not None:
            self._pending.append((places, self._threads.submit(self._judge, texts, own)))
        else:
            self._take(places, self._judge(texts, own))

    def collect(self, stats: ScoringStats) -> dict[int, Verdict]:
        """Every verdict asked for, by place; waits for those still owed, and adds to ``stats`` what they took."""
        for places, future in self._pending:
            self._take(places, future.result())
        given, self._given = self._given, {}
        self._pending = []
        stats.num_verdicts += len(given)
        stats.seconds_busy += sum(verdict.seconds for verdict in given.values())
        stats.num_retried += self._num_retried
        replaced = getattr(getattr(self.verifier, "pool", None), "num_replaced", 0)
        stats.num_replaced += replaced - self._num_replaced
        self._num_retried, self._num_replaced = 0, replaced
        return given

    @property
    def num_pending(self) -> int:
        return sum(not future.done() for _, future in self._pending)

    def close(self) -> None:
        self._closed = True
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self.verifier.close()  # which ends what a thread still waits for

    def _take(self, places: Sequence[int], judged: Answer) -> None:
        verdicts, num_retried = judged
        self._given.update(zip(places, verdicts, strict=True))
        self._num_retried += num_retried

    def _judge(self, texts: Sequence[str], questions: Sequence[Question]) -> Answer:
        """The verdicts; those without a score are asked for once more, and the second ones stand."""
        verdicts = self._verdicts(texts, questions)
        num_unscored = sum(not verdict.status.has_score for verdict in verdicts)
        if not num_unscored or self._closed:
            return verdicts, 0
        again = self._verdicts(texts, questions)
        return [old if old.status.has_score else new for old, new in zip(verdicts, again, strict=True)], num_unscored

    def _verdicts(self, texts: Sequence[str], questions: Sequence[Question]) -> list[Verdict]:
        if self.verifier.scope == "sample":
            return [self.verifier.verify(text, question) for text, question in zip(texts, questions, strict=True)]
        joint: JointVerifier = self.verifier  # type: ignore[assignment]
        return joint.verify_all(texts, questions)
