"""The ranks that the other tests here run on: results by rank, and no failure that hides or hangs."""

import os
import signal
import time

import pytest
import torch
from torch import distributed

from tests.parallel import ranks


def add_ranks(rank: int, start: torch.Tensor) -> torch.Tensor:
    value = start + rank
    distributed.all_reduce(value)
    return value


def fail_on_one(rank: int) -> None:
    if rank == 1:
        raise ValueError("this rank has had enough")
    distributed.barrier()


def die_on_one(rank: int) -> None:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()


def miss_a_barrier(rank: int) -> None:
    if rank == 1:
        time.sleep(100)
    distributed.barrier()


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_ranks_form_a_group_and_results_come_by_rank(num_processes: int) -> None:
    results = ranks.run(add_ranks, num_processes, torch.zeros(3))
    assert [result.tolist() for result in results] == [[num_processes * (num_processes - 1) / 2] * 3] * num_processes


def test_an_exception_names_its_rank_and_shows_its_traceback() -> None:
    with pytest.raises(ranks.RankError, match=r"(?s)rank 1 of 3 raised.*in fail_on_one.*had enough"):
        ranks.run(fail_on_one, 3)


def test_a_rank_that_is_killed_is_named() -> None:
    with pytest.raises(ranks.RankError, match="rank 1 of 2 died with exit code -9"):
        ranks.run(die_on_one, 2)


def test_a_rank_that_does_not_come_ends_in_a_message_with_the_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "TIMEOUT_S", 2.0)
    with pytest.raises(ranks.RankError, match=r"(?s)did not end in 2 s.*in miss_a_barrier"):
        ranks.run(miss_a_barrier, 2)
