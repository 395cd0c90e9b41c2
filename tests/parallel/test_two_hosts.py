"""Learner ranks on two hosts, engines on one: two network namespaces, each with an address of its own, and a link."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.parallel.test_runs import SECONDS, command, finish, running, steps, wait_for_step

HOSTS, ADDRESSES, PORT = ("grpo-a", "grpo-b"), ("10.77.0.1", "10.77.0.2"), "29533"


def ip(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("two network namespaces need root and iproute2")
    for host in HOSTS:
        ip("netns", "del", host)
    made = [ip("netns", "add", host) for host in HOSTS]
    made.append(
        ip("link", "add", "veth-a", "netns", HOSTS[0], "type", "veth", "peer", "name", "veth-b", "netns", HOSTS[1])
    )
    for host, address, link in zip(HOSTS, ADDRESSES, ("veth-a", "veth-b"), strict=True):
        made += [
            ip("-n", host, "addr", "add", f"{address}/24", "dev", link),
            ip("-n", host, "link", "set", link, "up"),
            ip("-n", host, "link", "set", "lo", "up"),
        ]
    try:
        if failed := [done.stderr.strip() for done in made if done.returncode]:
            pytest.skip(f"no network namespaces here: {failed[0]}")
        yield HOSTS
    finally:
        for host in HOSTS:
            ip("netns", "del", host)


def on_host(rank: int, folder: Path, *overrides: str) -> tuple[list[str], dict[str, str]]:
    """What torchrun would start there: the run's command, and where the first rank is to be met."""
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": ADDRESSES[0],
        "MASTER_PORT": PORT,
        "GLOO_SOCKET_IFNAME": ("veth-a", "veth-b")[rank],
        "OMP_NUM_THREADS": "1",
    }
    return ["ip", "netns", "exec", HOSTS[rank], *command(folder, *overrides)], environment


@pytest.mark.slow
def test_a_run_on_two_hosts_is_the_run_on_one(hosts: tuple[str, str], tmp_path: Path) -> None:
    with ExitStack() as stack:
        processes = []
        for rank in (0, 1):
            arguments, environment = on_host(rank, tmp_path / "two", "max_steps=2")
            processes.append(stack.enter_context(running(arguments, env=environment)))
        for process in processes:
            output, _ = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, output
    finish(tmp_path / "one", "max_steps=2")
    for ours, theirs in zip(steps(tmp_path / "two"), steps(tmp_path / "one"), strict=True):
        np.testing.assert_allclose(ours["grad_norm"], theirs["grad_norm"], rtol=1e-6)


@pytest.mark.slow
def test_a_cut_link_ends_the_run_within_its_deadline(hosts: tuple[str, str], tmp_path: Path) -> None:
    deadline_s = 10
    with ExitStack() as stack:
        processes = []
        for rank in (0, 1):
            arguments, environment = on_host(
                rank, tmp_path / "run", "max_steps=50", f"parallel.timeout_s={deadline_s}.0"
            )
            processes.append(stack.enter_context(running(arguments, env=environment)))
        wait_for_step(tmp_path / "run", 2, processes[0])
        assert ip("-n", HOSTS[0], "link", "set", "veth-a", "down").returncode == 0
        cut = time.monotonic()
        outputs = [process.communicate(timeout=90)[0] for process in processes]
        assert time.monotonic() - cut < deadline_s + 50
    assert [process.returncode for process in processes] == [1, 1], outputs
    assert "learner rank 1" in outputs[0]
    assert "the first of the learner's processes" in outputs[1] or "learner rank" in outputs[1]
    assert not any("Traceback" in output for output in outputs), outputs
