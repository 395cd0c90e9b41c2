"""The pool: as many children as asked, started as needed, killed and replaced past their limits."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.pool import Pool
from rewards.worker import Limits, WorkerDiedError, WorkerLimitError

CHILD = """
import os, sys, time
from rewards.worker import serve

def handle(request):
    match request["do"]:
        case "spin":
            while True:
                pass
        case "sleep":
            time.sleep(request["seconds"])
        case "retire":
            return {"pid": os.getpid(), "retire": True}
    return {"pid": os.getpid(), "arguments": sys.argv[2:]}

if __name__ == "__main__":
    serve(handle, ready={"ready": True, "word": "hello"})
"""
LIMITS = Limits(cpu_s=0.3, wall_s=20.0, memory_bytes=512 << 20)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    (tmp_path / "trial_pool_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = Pool("trial_pool_child", LIMITS, num_workers=3, arguments=("a", "b"))
    yield made
    made.close()


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()


def ask_at_once(pool: Pool, requests: list[dict[str, object]]) -> list[object]:
    results: list[object] = [None] * len(requests)

    def ask(place: int) -> None:
        try:
            results[place] = pool.ask(requests[place])
        except (WorkerLimitError, WorkerDiedError) as error:
            results[place] = error

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_caller_at_a_time_needs_one_child(pool: Pool) -> None:
    assert len({pool.ask({"do": "echo"})["pid"] for _ in range(5)}) == 1
    assert len(pool.pids) == 1


def test_callers_at_once_get_a_child_each_and_the_rest_wait_their_turn(pool: Pool) -> None:
    results = ask_at_once(pool, [{"do": "sleep", "seconds": 0.3}] * 6)
    assert len({result["pid"] for result in results}) == 3  # type: ignore[index]
    assert pool.num_waiting == 0


def test_a_request_that_runs_away_costs_its_own_verdict_only(pool: Pool) -> None:
    results = ask_at_once(pool, [{"do": "spin"}, *[{"do": "echo"}] * 8])
    assert isinstance(results[0], WorkerLimitError)
    assert all(isinstance(result, dict) for result in results[1:])
    assert pool.num_replaced == 1
    assert pool.ask({"do": "echo"})["pid"] in pool.pids


def test_a_child_that_asks_to_retire_is_replaced_after_its_reply(pool: Pool) -> None:
    first = pool.ask({"do": "retire"})["pid"]
    assert not is_alive(first)
    assert pool.ask({"do": "echo"})["pid"] != first


def test_arguments_and_greeting_travel(pool: Pool) -> None:
    assert pool.greeting()["word"] == "hello"
    assert pool.ask({"do": "echo"})["arguments"] == ["a", "b"]


def test_closing_ends_every_child_at_once_amid_a_request_too(pool: Pool) -> None:
    results: list[object] = []
    asking = threading.Thread(
        target=lambda: results.extend(ask_at_once(pool, [{"do": "sleep", "seconds": 15}] * 2)), daemon=True
    )
    asking.start()
    deadline = time.monotonic() + 10
    while len(pool.pids) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)  # both have started and are asleep in their request
    pids, started = pool.pids, time.monotonic()
    pool.close()
    asking.join()
    assert time.monotonic() - started < 10
    assert all(isinstance(result, WorkerDiedError) for result in results)
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize("num_workers", [0, -1, True, 1.5])
def test_a_number_of_workers_that_is_none_is_refused(num_workers: object) -> None:
    with pytest.raises(ValueError, match="num_workers = "):
        Pool("trial_pool_child", LIMITS, num_workers=num_workers)  # type: ignore[arg-type]


def test_a_thousand_requests_leave_no_descriptor_and_no_process_behind(pool: Pool) -> None:
    pool.ask({"do": "echo"})
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(1_000):
        pool.ask({"do": "echo"})
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(pool.pids) == 1
