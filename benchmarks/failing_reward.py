"""The quickstart's verifier, which fails on a share of all answers: the same ones whenever it is asked."""

import zlib

from rewards import NumberVerifier, Verdict

_number = NumberVerifier(extract="answer_tags")


def number_or_failure(completion, problem, share: float) -> Verdict:  # type: ignore[no-untyped-def]
    if zlib.crc32(f"{problem.text}\x1f{completion}\x1f{problem.prompt}".encode()) < share * 2**32:
        raise ConnectionError("the verifier is out, as it was asked to be")
    return _number.verify(completion, problem)
