"""Publishing weights, and the proof that they arrived.

Three layers, of which this file holds the first two (the third is a metric on sampled tokens):

(i)  every tensor by name: the engine reports a hash of the bytes it received, and which of its own parameters
     they reached; a name, a hash or the version that differs stops the run;
(ii) fixed probe texts scored by both sides at the same version, after the engine has repacked its weights: a
     difference beyond the tolerance stops the run.

This file knows neither the learner nor the engine, only what each offers.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import xxhash

from grpo.errors import PublishError
from grpo.score_difference import FP32_TOLERANCE, score_difference

if TYPE_CHECKING:
    import torch

    Tensors = Iterator[tuple[str, torch.Tensor]]
else:
    Tensors = Iterator

FloatArray = npt.NDArray[np.float32]
ROUTER_TIE = 1e-5  # of a probability: rounding moves router probabilities by about 1e-6
BF16_MARGIN = 3.0  # in bf16 the mean may be this many times what it was before training: rounding grows with use
BF16_FLOOR, BF16_CEILING = 0.05, 0.2  # nats, the mean; experts or a head left behind showed as 0.29 and more


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the engine says it received.

    ``hashes`` has one entry per tensor as sent; ``missed`` names the engine's own parameters that no tensor
    reached; ``repacked`` names those whose layout the engine changed after loading.
    """

    version: int
    hashes: Mapping[str, str]
    missed: tuple[str, ...] = ()
    repacked: tuple[str, ...] = ()

    @classmethod
    def of_all(cls, receipts: "Sequence[Receipt]") -> "Receipt":
        """One for several holders of the same bytes: what any of them missed or repacked counts."""
        first = receipts[0]
        missed = next((receipt.missed for receipt in receipts if receipt.missed), ())
        repacked = next((receipt.repacked for receipt in receipts if receipt.repacked), ())
        return cls(version=first.version, hashes=first.hashes, missed=missed, repacked=repacked)

    def difference(self, sent: Mapping[str, str]) -> tuple[str, str | None] | None:
        """The first tensor of which other bytes came than were sent, and their hash: None where none came."""
        came = ((name, self.hashes.get(name)) for name in sent)
        return next(((name, digest) for name, digest in came if digest != sent[name]), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A publish that was proven: what it cost and how near the two sides are."""

    version: int
    num_tensors: int
    num_bytes: int
    weights: str  # one hash (XXH3, 128 bits) of all tensors' names and hashes
    probe_difference: float  # nats, the largest over the probe's tokens (per nat of size above one); bf16: the mean
    near_tie: bool  # the probe whose turn it was differed, and the second opinion was that it may
    seconds: float


class Learner(Protocol):
    """What the learner offers."""

    def named_tensors(self) -> Tensors:
        """Every tensor of the checkpoint by its checkpoint name, a tied head included."""
        ...

    def score(self, token_ids: Sequence[int]) -> FloatArray:
        """Log-probabilities at temperature 1 of tokens 1..L-1; shape (L-1,)."""
        ...

    def router_margin(self, token_ids: Sequence[int]) -> float:
        """Least gap, over tokens and layers, between the last expert chosen and the first one not; inf if dense."""
        ...


class Engine(Protocol):
    """What the engine offers. One of several replicas has ``replicas``: the weights go to all, and each is proven."""

    @property
    def version(self) -> int: ...

    def load(self, tensors: Tensors, version: int) -> Receipt: ...

    def score(self, token_ids: Sequence[int]) -> FloatArray: ...


def fingerprint(tensor: "torch.Tensor") -> str:
    """A hash (XXH3, 128 bits) of dtype, shape and bytes."""
    import torch

    digest = xxhash.xxh3_128(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Publisher:
    """Sends the learner's weights to the engine, one version after another, and proves each arrival.

    Args:
        probes: texts as tokens, which take turns: one is scored after every publish. Where it fails, the others are
            the second opinion if, and only if, the learner's router was within rounding of choosing other experts for
            some token of it: then two correct implementations may choose differently. All others must agree. In bf16
            such choices are many, and the second opinion is the mean over all probes.
        exact: both sides compute in fp32, so every token of a probe must agree to 1e-4 nats, of its own size where
            that is more than one nat. Otherwise the mean over the probe counts, and its tolerance comes from the
            same probe before training, when both sides hold the checkpoint as loaded.
    """

    def __init__(self, learner: Learner, engine: Engine, probes: Sequence[Sequence[int]], *, exact: bool) -> None:
        self._learner, self._engine, self._probes, self._exact = learner, engine, tuple(probes), exact
        self.tolerance = FP32_TOLERANCE
        if not exact:
            margin = BF16_MARGIN * max(self._probe_difference(r, p) for r in self._replicas() for p in self._probes)
            self.tolerance = min(max(BF16_FLOOR, margin), BF16_CEILING)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs: the tolerance of the weights that training began with."""
        return {"exact": self._exact, "tolerance": self.tolerance}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state`` gave; that of other number formats is none for these."""
        if state.get("exact") == self._exact:
            self.tolerance = state["tolerance"]

    def publish(self, version: int) -> Publication:
        """Send every tensor as ``version`` and prove that the engine now computes with it.

        Raises:
            PublishError: the two sides do not hold the same weights.
        """
        started = time.perf_counter()
        probe = self._probes[version % len(self._probes)]
        hashed: dict[str, Future[str]] = {}
        num_bytes = 0
        scored: list[Future[FloatArray]] = []

        def recorded() -> Iterator[tuple[str, "torch.Tensor"]]:
            nonlocal num_bytes
            for name, tensor in self._learner.named_tensors():
                hashed[name] = beside.submit(fingerprint, tensor)
                num_bytes += tensor.nbytes
                yield name, tensor
            if hasattr(self._engine, "replicas"):  # other processes load now, and this one would wait for them
                scored.append(beside.submit(self._learner.score, probe))

        with ThreadPoolExecutor(1) as beside:  # while the engine takes them
            receipt = self._engine.load(recorded(), version)
        sent = {name: future.result() for name, future in hashed.items()}
        if not sent:  # the engine never asked: what should have arrived is still ours to name
            sent = {name: fingerprint(tensor) for name, tensor in self._learner.named_tensors()}
        self._check_receipt(receipt, sent, version)
        own_scores = scored[0].result() if scored else self._learner.score(probe)
        proofs = [self._check_probe(replica, probe, own_scores, receipt) for replica in self._replicas()]
        return Publication(
            version=version,
            num_tensors=len(sent),
            num_bytes=num_bytes,
            weights=xxhash.xxh3_128("".join(f"{name} {sent[name]}\n" for name in sorted(sent)).encode()).hexdigest(),
            probe_difference=max(difference for difference, _ in proofs),
            near_tie=any(near_tie for _, near_tie in proofs),
            seconds=time.perf_counter() - started,
        )

    def _replicas(self) -> "Sequence[Engine]":
        return getattr(self._engine, "replicas", (self._engine,))

    def _check_receipt(self, receipt: Receipt, sent: Mapping[str, str], version: int) -> None:
        held = receipt.version if receipt.version != version else self._engine.version
        if found := receipt.difference(sent):
            name, came = found
            message = f"the bytes received (hash {came}) are not the bytes sent ({sent[name]})"
            message = "a tensor never arrived" if came is None else message
            raise PublishError(message, tensor=name, version_sent=version, version_held=held)
        if receipt.missed:
            message = f"{len(receipt.missed)} of the engine's parameters were reached by no tensor"
            raise PublishError(message, tensor=receipt.missed[0], version_sent=version, version_held=held)
        if held != version:
            raise PublishError(
                "the engine holds another version", tensor=next(iter(sent)), version_sent=version, version_held=held
            )

    def _check_probe(
        self, engine: Engine, probe: Sequence[int], own_scores: FloatArray, receipt: Receipt
    ) -> tuple[float, bool]:
        """The difference that counted, and whether it is the second opinion's.

        ``own_scores``: the learner's, of that probe.
        """
        difference = score_difference(own_scores, engine.score(probe), exact=self._exact)
        if difference <= self.tolerance:
            return difference, False
        others = []
        if not self._exact or self._learner.router_margin(probe) < ROUTER_TIE:
            others = [self._probe_difference(engine, other) for other in self._probes if other is not probe]
        second = max(others, default=math.inf) if self._exact else sum([difference, *others]) / (1 + len(others))
        if second <= self.tolerance:  # a NaN is not
            return second, True
        suspect = next(iter(receipt.repacked), next(iter(receipt.hashes)))
        message = (
            f"the right bytes arrived, yet probe texts score {max([difference, *others]):.3g} nats apart (allowed "
            f"{self.tolerance:.3g}): the engine processed a tensor wrongly after loading; first suspect, "
            f"of {len(receipt.repacked)} that it repacks"
        )
        raise PublishError(message, tensor=suspect, version_sent=receipt.version, version_held=engine.version)

    def _probe_difference(self, engine: Engine, probe: Sequence[int]) -> float:
        return score_difference(self._learner.score(probe), engine.score(probe), exact=self._exact)
