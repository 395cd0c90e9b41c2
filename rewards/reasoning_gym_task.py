"""Each reasoning-gym task's own scorer (arXiv 2505.24760, the package ``reasoning-gym``), in a killable child process.

The dataset is one that the package generated: the question, the answer as reference, and the column ``metadata``
(a mapping, or JSON) that each scorer reads. Some tasks have many right answers and no reference: only the metadata
counts.
"""

import importlib.util
import json
from collections.abc import Mapping

from rewards.arguments import check_number
from rewards.base import PooledVerifier
from rewards.extract import extractor
from rewards.number import shorten
from rewards.pool import Pool
from rewards.verdict import Question, Status, Verdict, failed, unparsed
from rewards.worker import Limits, Message, WorkerDiedError, WorkerLimitError

MAX_CHARACTERS = 20_000  # of an answer that is scored
_CHILD = "rewards.reasoning_gym_child"


class ReasoningGymVerifier(PooledVerifier):
    """The score, from 0 to 1, that the task's own function gives the extracted answer; correct where it is 1.

    The task is ``task``, or, where that is empty, what the column ``source_dataset`` or the metadata's member of that
    name says. Scorers are made with each task's default configuration, as
    ``reasoning_gym.get_score_answer_fn`` makes them. What runs past its limit on an answer, but not on the
    reference, scores 0.

    An answer that the scorer would evaluate must be a literal or mathematics: nothing that a model writes is run as a
    program (``reasoning_gym_child``).
    """

    name = "reasoning_gym"

    def __init__(
        self, *, task: str = "", extract: str = "answer_tags", cpu_s: float = 4.0, num_workers: int = 1
    ) -> None:
        """``cpu_s``: CPU seconds for one answer; ``num_workers``: child processes.

        Raises:
            ValueError: the reasoning-gym package is missing, ``extract`` names no search of ``rewards.extract``, or
                another argument is out of range.
        """
        if importlib.util.find_spec("reasoning_gym") is None:
            raise ValueError(
                "verifier 'reasoning_gym' needs the package reasoning-gym. Fix: pip install 'grpo[reasoning-gym]'"
            )
        if not isinstance(task, str):
            raise ValueError(f"task = {task!r}: the name of a reasoning-gym task is needed")
        check_number("cpu_s", cpu_s, 0.1, 600, of="of seconds")
        self.task = task
        self.extract = extract
        self._find = extractor(extract)
        # On top of what the package's imports take: puzzles of ARC and fonts are held in memory.
        limits = Limits(cpu_s=float(cpu_s), wall_s=60.0 + 15.0 * cpu_s, on_top=True)
        self.pool: Pool = Pool(_CHILD, limits, num_workers)

    def _judge(self, completion: str, question: Question) -> Verdict:
        try:
            task, entry = self._read_columns(question)
        except ValueError as error:
            return failed(str(error))
        answer = self._find(completion)
        if answer is None:
            return unparsed(f"no answer by {self.extract!r}")
        if len(answer) > MAX_CHARACTERS:
            return unparsed(f"longer than {MAX_CHARACTERS} characters")
        try:
            reply = self.pool.ask_twice({"task": task, "entry": entry, "answer": answer})
        except WorkerLimitError as error:
            return self._past_limit(task, entry, answer, str(error))
        except WorkerDiedError as error:
            return failed(str(error))
        return _verdict(task, answer, reply)

    def _past_limit(self, task: str, entry: Message, answer: str, reason: str) -> Verdict:
        """Whose doing it was: the answer's, where the entry's own answer is scored within the limit."""
        try:
            self.pool.ask_twice({"task": task, "entry": entry, "answer": entry["answer"]})
        except (WorkerLimitError, WorkerDiedError):
            return failed(f"task {task!r}: the scorer {reason}")
        return Verdict(score=0.0, status=Status.TIMEOUT, extracted=answer, reason=f"{shorten(answer)} {reason}")

    def _read_columns(self, question: Question) -> tuple[str, dict[str, object]]:
        """Task and entry as the package has them. Raises ValueError naming the column."""
        metadata = _read_metadata(question.columns.get("metadata"))
        task = self.task or question.columns.get("source_dataset") or metadata.get("source_dataset")
        if not isinstance(task, str):
            raise ValueError(
                f"column 'source_dataset' = {task!r}: the name of a reasoning-gym task is needed, there, in the "
                "metadata or as the argument task"
            )
        return task, {"question": question.text, "answer": question.reference, "metadata": metadata}


def _read_metadata(value: object) -> dict[str, object]:
    try:
        read = json.loads(value) if isinstance(value, str) else value
        if not isinstance(read, Mapping):
            raise ValueError("a mapping is needed")
        metadata: dict[str, object] = json.loads(json.dumps(dict(read)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"column 'metadata' = {shorten(repr(value))}: a mapping, or one in JSON ({error})") from error
    return metadata


def _verdict(task: str, answer: str, reply: Message) -> Verdict:
    if "error" in reply:
        return failed(f"task {task!r}: {reply['error']}")
    if "unreadable" in reply:
        return unparsed(f"{shorten(answer)}: {reply['unreadable']}")
    score = float(reply["score"])
    return Verdict(score=score, status=Status.CORRECT if score >= 1.0 else Status.WRONG, extracted=answer)
