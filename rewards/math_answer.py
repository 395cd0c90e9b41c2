r"""Mathematical answers judged against a reference.

Most are decided exactly in the calling process (``rewards.math_exact``). The rest is compared in a killable child
process, within limits of CPU time and memory. What a limit means depends on whose doing it was:

- an answer beyond the caps on size, nesting or magnitude, prose, or one that leaves an integral to be worked out:
  unparsed, score 0;
- an answer that is far longer or deeper than its reference, or has names and functions that it lacks, and runs past
  the limit: timeout, score 0, so that no text pays by going unscored;
- any other answer at which the comparison runs past the limit, or the child ends twice: harness_error, no score.
"""

import re

from rewards.arguments import check_number
from rewards.base import PooledVerifier
from rewards.extract import extractor
from rewards.math_exact import canonical, decide, depth, is_foreign, is_name, read, refusal, refusal_of_answer, squeeze
from rewards.math_text import tidy
from rewards.number import parse_number, shorten, strip_markup
from rewards.pool import Pool
from rewards.verdict import Question, Status, Verdict, failed, unparsed
from rewards.worker import Limits, WorkerDiedError, WorkerLimitError

_CHILD = "rewards.math_child"
_LABORIOUS = re.compile(
    r"\\(?:int|iint|oint|sum|prod|lim|Gamma|binom|begin)(?![A-Za-z])|!|\^\s*\{?\s*\(?\s*[0-9]{3}"
    r"|\^\s*\{[^{}^]{0,40}\^"
)
_WORD = re.compile(r"\\?[A-Za-z]+")
_PLAIN_WORDS = frozenset(("\\frac", "\\sqrt", "\\text", "\\pi", "pi", "sqrt"))


class MathAnswerVerifier(PooledVerifier):
    r"""1 where the extracted answer equals the reference as mathematics, else 0.

    ``extracted`` of a right answer is the canonical form of the reference, so that all right answers are one in a
    vote; of a wrong one, its own. Usable from any thread; sets no signal in this process. The child starts at the
    first answer that needs it.

    >>> verifier = MathAnswerVerifier(extract="boxed")
    >>> verifier.verify(r"so \boxed{0.50}", Question(text="", reference=r"\frac{1}{2}")).extracted
    '1/2'
    >>> verifier.close()
    """

    name = "math_answer"

    def __init__(
        self, *, extract: str = "answer_tags", cpu_s: float = 2.0, memory_mb: int = 512, num_workers: int = 1
    ) -> None:
        """``cpu_s``: CPU seconds that one comparison may take; ``memory_mb``: address space of one child in MiB, of
        which its imports take 65; ``num_workers``: children, each started when all others are busy.

        Raises:
            ValueError: ``extract`` names no search of ``rewards.extract``, or a limit is out of range.
        """
        self.extract = extract
        self._find = extractor(extract)
        check_number("cpu_s", cpu_s, 0.1, 600, of="of seconds")
        if isinstance(memory_mb, bool) or not isinstance(memory_mb, int) or memory_mb < 256:
            raise ValueError(f"memory_mb = {memory_mb!r}: a whole number of MiB, at least 256, is needed")
        limits = Limits(cpu_s=float(cpu_s), wall_s=60.0 + 60.0 * cpu_s, memory_bytes=memory_mb << 20)
        self.pool: Pool = Pool(_CHILD, limits, num_workers)

    def check_reference(self, reference: str) -> str | None:
        reference = strip_markup(reference)
        if parse_number(reference) is not None:
            return None
        problem = "it is empty" if not reference else refusal(reference)
        if problem is None and read(reference) is None and not is_name(reference):
            if not is_foreign(reference):
                return f"{shorten(reference)}: it cannot be read as mathematics"
            try:
                problem = self.pool.ask_twice({"op": "check", "reference": tidy(reference)})["problem"]
            except (WorkerLimitError, WorkerDiedError) as error:
                problem = str(error)
        return None if problem is None else f"{shorten(reference)}: {problem}"

    def _judge(self, completion: str, question: Question) -> Verdict:
        span = self._find(completion)
        if span is None:
            return unparsed(f"no answer by {self.extract!r}")
        answer, reference = strip_markup(span), strip_markup(question.reference)
        try:
            verdict = self._compare(answer, reference)
        except RecursionError:  # the readers count what they nest; what they miss must not reach the caller
            return unparsed(f"{shorten(answer)}: it nests too deeply")
        if verdict.status is Status.CORRECT and _restates(answer, reference, question.text):
            reason = f"{shorten(answer)} restates the question"
            return Verdict(score=0.0, status=Status.WRONG, extracted=canonical(answer), reason=reason)
        return verdict

    def _compare(self, answer: str, reference: str) -> Verdict:
        if not answer or not reference:
            return unparsed("the answer is empty") if reference else failed("the reference is empty")
        decided = decide(answer, reference)
        if decided:
            return _right(reference)
        refused = refusal_of_answer(answer, reference)
        if refused is not None:
            return unparsed(f"{shorten(answer)}: {refused}")
        if decided is False:
            return _wrong(answer)
        refused = refusal(reference)
        if refused is not None:
            return failed(f"reference {shorten(reference)}: {refused}")
        return self._compare_in_child(tidy(answer), tidy(reference))

    def _compare_in_child(self, answer: str, reference: str) -> Verdict:
        try:
            reply = self.pool.ask_twice({"op": "verify", "reference": reference, "answer": answer})
        except WorkerDiedError as error:
            return failed(str(error))
        except WorkerLimitError as error:
            if _asks_for_more(answer, reference):
                reason = f"{shorten(answer)} {error}"
                return Verdict(score=0.0, status=Status.TIMEOUT, extracted=canonical(answer), reason=reason)
            return failed(f"comparing {shorten(answer)} with {shorten(reference)} {error}")
        match reply["outcome"]:
            case "equal":
                return _right(reference)
            case "different":
                return _wrong(answer)
            case "bad_reference":
                return failed(f"reference {shorten(reference)}: {reply['reason']}")
        return unparsed(f"{shorten(answer)}: {reply['reason']}")


def _restates(answer: str, reference: str, question: str) -> bool:
    """Whether a right answer is but a piece of the question that is still to be worked out.

    A number, or what is no longer than the reference, may well stand in the question.
    """
    squeezed = squeeze(answer)
    if parse_number(answer) is not None or len(squeezed) <= len(squeeze(reference)):
        return False
    return squeezed in squeeze(question)


def _asks_for_more(answer: str, reference: str) -> bool:
    """Whether judging ``answer`` is more work than its reference gives cause for: it is longer, deeper, or brings in
    names and functions of its own."""
    return (
        not set(_WORD.findall(answer)) <= _PLAIN_WORDS.union(_WORD.findall(reference))
        or len(_LABORIOUS.findall(answer)) > len(_LABORIOUS.findall(reference))
        or len(answer) > 100 + 4 * len(reference)
        or depth(answer) > 6 + depth(reference)
    )


def _right(reference: str) -> Verdict:
    return Verdict(score=1.0, status=Status.CORRECT, extracted=canonical(reference))


def _wrong(answer: str) -> Verdict:
    return Verdict(score=0.0, status=Status.WRONG, extracted=canonical(answer))
