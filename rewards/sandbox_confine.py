"""The fork's way from the zygote to a confined process: a disk, descriptors, limits, and then nothing more to gain."""

import math
import os
import resource
import signal
import socket
from dataclasses import dataclass
from typing import Any

from rewards import sandbox_kernel as kernel
from rewards.sandbox_landlock import restrict_files
from rewards.sandbox_namespaces import STDIN, WORK, mount_box
from rewards.sandbox_seccomp import filter_of, install_filter
from rewards.sandbox_workspace import MAX_FILES

STDIN_FD, STDOUT_FD, STDERR_FD, CALLS_FD, REPLIES_FD, PROGRAM_FD = range(6)
_FIRST_FREE = 100  # above all descriptors of a zygote
_NUM_DESCRIPTORS = 64
_STACK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every fork of one zygote shares."""

    tier: int
    landlock: int  # ABI version; 0 where the kernel has none
    readable: tuple[str, ...]
    workspace: str  # tier 2: the folder in which a program may write
    baseline_bytes: int  # address space of the zygote itself
    filter_template: bytes
    proc: int  # /proc as the zygote saw it from outside; closed before a program runs


def become_confined(world: World, limits: dict[str, Any], given: list[int], report: socket.socket) -> bool:
    """Turn this process into one that can only compute, and tell the zygote; False where the kernel refused a step.

    Args:
        world: what the zygote found out.
        limits: the fields of ``SandboxLimits``.
        given: descriptors of the program, standard input, standard output, replies and calls.
        report: the socket to the zygote: gets the listener of this process's system calls, or what went wrong.
    """
    with socket.socket(fileno=kernel.duplicate_above(report.detach(), _FIRST_FREE)) as channel:
        try:
            listener = _confine(world, limits, given, channel.fileno())
        except OSError as error:
            channel.send(str(error).encode())
            return False
        socket.send_fds(channel, [b"ready"], [listener])
        os.close(listener)
    return True


def _confine(world: World, limits: dict[str, Any], given: list[int], kept: int) -> int:
    os.setsid()
    kernel.process_control(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    program, stdin, stdout, replies, calls = given
    if world.tier == 1:
        stdin = _box_with_stdin(stdin, limits["disk_mb"] << 20)
    os.chdir(WORK if world.tier == 1 else world.workspace)
    null = os.open("/dev/null", os.O_RDWR)
    _place([stdin, stdout, null, calls, replies, program], kept)
    _set_limits(world, limits)
    kernel.process_control(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if world.landlock:
        _restrict_files(world)
    kernel.drop_capabilities()
    return install_filter(filter_of(world.filter_template, os.getpid()))


def _box_with_stdin(stdin: int, disk_bytes: int) -> int:
    """In tier 1 standard input is a file, so that /dev/stdin can be opened by its name."""
    size = os.fstat(stdin).st_size
    page = resource.getpagesize()
    mount_box(disk_bytes + math.ceil(size / page) * page, MAX_FILES)
    with open(STDIN, "wb", buffering=0) as file:
        sent = 0
        while sent < size:
            sent += os.sendfile(file.fileno(), stdin, sent, size - sent)
    return os.open(STDIN, os.O_RDONLY)


def _place(descriptors: list[int], kept: int) -> None:
    """Number them from 0 on, and close all others but ``kept``."""
    high = [kernel.duplicate_above(descriptor, kept + 1) for descriptor in descriptors]
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number)
    os.closerange(len(high), kept)
    os.closerange(kept + 1, 1 << 30)


def _set_limits(world: World, limits: dict[str, Any]) -> None:
    cpu_s = math.ceil(limits["cpu_s"]) + 1  # the zygote's clock is exact; this stands behind it
    _limit(resource.RLIMIT_CPU, cpu_s)
    _limit(resource.RLIMIT_AS, world.baseline_bytes + (limits["memory_mb"] << 20))
    _limit(resource.RLIMIT_FSIZE, limits["disk_mb"] << 20)
    _limit(resource.RLIMIT_NOFILE, _NUM_DESCRIPTORS)
    _limit(resource.RLIMIT_STACK, _STACK_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    if world.tier == 1:  # counted within the user namespace; elsewhere it would count the user's other processes
        _limit(resource.RLIMIT_NPROC, limits["threads"] + 1)  # and the zygote


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _restrict_files(world: World) -> None:
    readable = ("/",) if world.tier == 1 else world.readable
    writable = (WORK if world.tier == 1 else world.workspace, "/dev/null")
    read = [os.open(path, os.O_PATH) for path in readable]
    write = [os.open(path, os.O_PATH) for path in writable]
    try:
        restrict_files(world.landlock, readable=read, writable=write)
    finally:
        for descriptor in (*read, *write):
            os.close(descriptor)
