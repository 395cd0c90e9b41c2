r"""Mathematical answers judged against a reference, with math-verify in a killable child process.

What needs no algebra never reaches the child: plain numbers are compared exactly, and a text equal to the
reference is right. The rest is compared there, within limits of CPU time and memory. What a limit means depends on
whose doing it was:

- an answer beyond the caps on size, nesting or magnitude, which no answer needs: unparsed, score 0;
- an answer that asks for work that its reference does not (a sum, an integral, a tower of powers), or is far longer
  or deeper, and runs past the limit: timeout, score 0, so that no text pays by going unscored;
- any other answer at which the comparison runs past the limit, or the child ends twice: harness_error, no score.
"""

import hashlib
import re
import time
from dataclasses import replace
from fractions import Fraction

from rewards.extract import extractor
from rewards.number import parse_number, shorten, strip_markup
from rewards.verdict import Question, Status, Verdict
from rewards.worker import Limits, Message, Worker, WorkerDiedError, WorkerLimitError

MAX_CHARACTERS = 1_000  # of an answer that is to be parsed; MATH-500's longest reference has 53
MAX_DEPTH = 24  # brackets within brackets
_MAX_LISTED_CHARACTERS = 20_000  # of a list of plain numbers, which is compared without parsing
_MAX_SPELLED = 400
_CHILD = "rewards.math_child"

_LABORIOUS = re.compile(
    r"\\(?:int|iint|oint|sum|prod|lim)(?![A-Za-z])|!|\\binom|\^\s*\{?\s*\(?\s*[0-9]{3}|\^\s*\{[^{}^]{0,40}\^"
)
_BRACKET = re.compile(r"[({\[]|[)}\]]")
_LISTS = (("\\{", "\\}"), ("(", ")"))


class MathAnswerVerifier:
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

    def __init__(self, *, extract: str = "answer_tags", cpu_s: float = 2.0, memory_mb: int = 1024) -> None:
        """``cpu_s``: CPU seconds that one comparison may take; ``memory_mb``: address space of the child in MiB.

        Raises:
            ValueError: ``extract`` names no search of ``rewards.extract``, or a limit is out of range.
        """
        self.extract = extract
        self._find = extractor(extract)
        if isinstance(cpu_s, bool) or not isinstance(cpu_s, int | float) or not 0.1 <= cpu_s <= 600:
            raise ValueError(f"cpu_s = {cpu_s!r}: a number of seconds from 0.1 to 600 is needed")
        if isinstance(memory_mb, bool) or not isinstance(memory_mb, int) or memory_mb < 512:
            raise ValueError(f"memory_mb = {memory_mb!r}: a whole number of MiB, at least 512, is needed")
        limits = Limits(cpu_s=float(cpu_s), wall_s=30.0 + 15.0 * cpu_s, memory_bytes=memory_mb << 20)
        self._worker = Worker(_CHILD, limits)

    def check_reference(self, reference: str) -> str | None:
        reference = strip_markup(reference)
        if parse_number(reference) is not None:
            return None
        refusal = "it is empty" if not reference else _refusal(reference)
        if refusal is None:
            try:
                refusal = self._ask({"op": "check", "reference": reference})["problem"]
            except (WorkerLimitError, WorkerDiedError) as error:
                refusal = str(error)
        return None if refusal is None else f"{shorten(reference)}: {refusal}"

    def verify(self, completion: str, question: Question) -> Verdict:
        started = time.perf_counter()
        span = self._find(completion)
        if span is None:
            verdict = _unparsed(f"no answer by {self.extract!r}")
        else:
            answer, reference = strip_markup(span), strip_markup(question.reference)
            verdict = self._judge(answer, reference)
            if verdict.status is Status.CORRECT and _restates(answer, reference, question.text):
                reason = f"{shorten(answer)} restates the question"
                verdict = Verdict(score=0.0, status=Status.WRONG, extracted=_spelled(answer), reason=reason)
        return replace(verdict, seconds=time.perf_counter() - started)

    def close(self) -> None:
        """End and reap the child; idempotent."""
        self._worker.close()

    def _judge(self, answer: str, reference: str) -> Verdict:
        if not answer or not reference:
            return _unparsed("the answer is empty") if reference else _failed("the reference is empty")
        plain = _compare_plain(answer, reference)
        if plain is True:
            return self._right(reference)
        if plain is False:
            return self._wrong(answer)
        refusal = _refusal(answer)
        if refusal is not None:
            return _unparsed(refusal)
        refusal = _refusal(reference)
        if refusal is not None:
            return _failed(f"reference {shorten(reference)}: {refusal}")
        return self._judge_in_child(answer, reference)

    def _judge_in_child(self, answer: str, reference: str) -> Verdict:
        try:
            reply = self._ask({"op": "verify", "reference": reference, "answer": answer})
        except WorkerDiedError as error:
            return _failed(str(error))
        except WorkerLimitError as error:
            if _asks_for_more(answer, reference):
                reason = f"{shorten(answer)} {error}"
                return Verdict(score=0.0, status=Status.TIMEOUT, extracted=_spelled(answer), reason=reason)
            return _failed(f"comparing {shorten(answer)} with {shorten(reference)} {error}")
        match reply["outcome"]:
            case "equal":
                return self._right(reference)
            case "different":
                return self._wrong(answer)
            case "bad_reference":
                return _failed(f"reference {shorten(reference)}: {reply['reason']}")
        return _unparsed(f"{shorten(answer)}: {reply['reason']}")

    def _right(self, reference: str) -> Verdict:
        return Verdict(score=1.0, status=Status.CORRECT, extracted=self._canonical(reference))

    def _wrong(self, answer: str) -> Verdict:
        return Verdict(score=0.0, status=Status.WRONG, extracted=self._canonical(answer))

    def _canonical(self, text: str) -> str:
        number = parse_number(text)
        if number is not None:
            return str(number)
        try:
            canonical = None if _refusal(text) else self._ask({"op": "canonical", "text": text})["canonical"]
        except (WorkerLimitError, WorkerDiedError):
            canonical = None  # the verdict stands; only its vote is counted by the text
        return _spelled(text) if canonical is None else str(canonical)

    def _ask(self, request: Message) -> Message:
        """A child that died is replaced and asked once more: the machine may have killed it, not the request."""
        try:
            return self._worker.ask(request)
        except WorkerDiedError:
            return self._worker.ask(request)


def _restates(answer: str, reference: str, question: str) -> bool:
    """Whether a right answer is but a piece of the question that is still to be worked out.

    A number, or the reference as it is written, may well stand in the question.
    """
    squeezed = _squeeze(answer)
    if parse_number(answer) is not None or squeezed == _squeeze(reference):
        return False
    return squeezed in _squeeze(question)


def _compare_plain(answer: str, reference: str) -> bool | None:
    """Equality where no algebra is needed: numbers, lists of numbers, the same text. None: the child must judge."""
    if _squeeze(answer) == _squeeze(reference):
        return True
    given, expected = parse_number(answer), parse_number(reference)
    if given is not None and expected is not None and "%" not in answer + reference:
        return given == expected
    given_list, expected_list = _plain_list(answer), _plain_list(reference)
    if given_list is None or expected_list is None or given_list[0] != expected_list[0]:
        return None
    return given_list == expected_list


def _plain_list(text: str) -> tuple[str, list[Fraction]] | None:
    r"""Bracket and numbers of ``\{1, 2\}`` (sorted: a set) or ``(1, 2)``; None for anything else."""
    if len(text) > _MAX_LISTED_CHARACTERS:
        return None
    for opening, closing in _LISTS:
        if text.startswith(opening) and text.endswith(closing):
            values = [parse_number(item) for item in text[len(opening) : -len(closing)].split(",")]
            numbers = [value for value in values if value is not None]
            if len(numbers) != len(values):
                return None
            return opening, sorted(set(numbers)) if opening == "\\{" else numbers
    return None


def _refusal(text: str) -> str | None:
    """Why ``text`` is not handed to the parser, in one line; None where it is."""
    if len(text) > MAX_CHARACTERS:
        return f"longer than {MAX_CHARACTERS} characters"
    if _depth(text) > MAX_DEPTH:
        return f"more than {MAX_DEPTH} brackets within one another"
    return None


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in "({[" else -1
        deepest = max(deepest, depth)
    return deepest


def _asks_for_more(answer: str, reference: str) -> bool:
    """Whether judging ``answer`` is much more work than its reference gives cause for."""
    return (
        len(_LABORIOUS.findall(answer)) > len(_LABORIOUS.findall(reference))
        or len(answer) > 100 + 4 * len(reference)
        or _depth(answer) > 6 + _depth(reference)
    )


def _squeeze(text: str) -> str:
    return "".join(text.split())


def _spelled(text: str) -> str:
    """A text as its own canonical form: without white space, and a long one cut but still told apart."""
    text = _squeeze(text)
    if len(text) <= _MAX_SPELLED:
        return text
    return text[:_MAX_SPELLED] + "#" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _unparsed(reason: str) -> Verdict:
    return Verdict(score=0.0, status=Status.UNPARSED, reason=reason)


def _failed(reason: str) -> Verdict:
    return Verdict(score=None, status=Status.HARNESS_ERROR, reason=reason)
