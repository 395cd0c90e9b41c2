"""A reward that knows nothing: the control of an experiment. What improves under it was not learned from rewards."""

import hashlib

from rewards.base import InlineVerifier
from rewards.verdict import Question, Status, Verdict


class RandomVerifier(InlineVerifier):
    """1 for about ``share`` of all texts, else 0, by a hash of seed, question and completion.

    The same text always gets the same score, so a run repeats, and answers that differ differ in score by chance.
    """

    name = "random"

    def __init__(self, *, seed: int = 0, share: float = 0.5) -> None:
        """Raises ValueError unless ``seed`` is a whole number and ``share`` lies between 0 and 1."""
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"seed = {seed!r}: a whole number is needed")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"share = {share!r}: a number from 0 to 1 is needed")
        self.seed = seed
        self.share = share

    def verify(self, completion: str, question: Question) -> Verdict:
        text = f"{self.seed}\x1f{question.text}\x1f{completion}".encode(errors="surrogatepass")
        draw = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64
        won = draw < self.share
        return Verdict(score=float(won), status=Status.CORRECT if won else Status.WRONG)
