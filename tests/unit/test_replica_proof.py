"""What a replica must show: every way of holding other weights is told by name."""

import numpy as np
import pytest

from grpo.engine.replica_proof import Probe, check_receipt, check_scores
from grpo.errors import PublishError
from grpo.weights import Receipt

WRITTEN = {"embed": "1a", "head": "2b"}


@pytest.mark.parametrize(
    ("receipt", "tensor", "message"),
    [
        (Receipt(version=3, hashes={"embed": "1a"}), "head", r"engine-1 received other bytes \(hash none\)"),
        (Receipt(version=3, hashes=WRITTEN | {"embed": "9f"}), "embed", r"other bytes \(hash 9f\) .* written \(1a\)"),
        (
            Receipt(version=3, hashes=WRITTEN, missed=("qkv", "o")),
            "qkv",
            "2 of the parameters of engine-1 were reached",
        ),
        (Receipt(version=2, hashes=WRITTEN), "embed", "engine-1 holds another version"),
    ],
)
def test_a_receipt_that_lacks_something_is_refused_by_name(receipt: Receipt, tensor: str, message: str) -> None:
    with pytest.raises(PublishError, match=message) as caught:
        check_receipt("engine-1", receipt, WRITTEN, version=3, version_held=1)
    assert (caught.value.tensor, caught.value.version_sent) == (tensor, 3)


def test_a_whole_receipt_passes() -> None:
    check_receipt("engine-1", Receipt(version=3, hashes=WRITTEN), WRITTEN, version=3, version_held=1)


@pytest.mark.parametrize(
    ("difference", "exact", "passes"),
    [
        ([5e-5, 0, 0], True, True),
        ([3e-4, 0, 0], True, False),
        ([3e-4, 0, 0], False, True),
        ([0, 0, 8e-4], True, True),  # of a score of -10 nats
        ([0.1, 0.1, 0.1], False, False),
        ([float("nan"), 0, 0], False, False),
    ],
)
def test_scores_must_be_those_of_a_proven_replica(difference: list[float], exact: bool, passes: bool) -> None:
    probe = Probe(token_ids=(1, 2, 3, 4), scores=np.array([-0.5, -2.0, -10.0], dtype=np.float32))
    scores = probe.scores + np.array(difference, dtype=np.float32)
    if passes:
        check_scores("engine-0", scores, probe, exact=exact, version=4, suspect="experts")
        return
    with pytest.raises(PublishError, match="engine-0 has started again with the right bytes, yet") as caught:
        check_scores("engine-0", scores, probe, exact=exact, version=4, suspect="experts")
    assert caught.value.tensor == "experts"
