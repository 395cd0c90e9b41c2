"""The filter of system calls, run by a small machine of our own, for both architectures' tables."""

import struct

import pytest

from rewards import sandbox_syscalls
from rewards.sandbox_seccomp import build_template, filter_of
from rewards.sandbox_syscalls import ALLOWED, AUDIT_ARCHITECTURES, FORBIDDEN, MACHINE, NUMBERS

ALLOW, TELL, KILL, EPERM, ENOSYS = 0x7FFF_0000, 0x7FC0_0000, 0x8000_0000, 0x0005_0001, 0x0005_0026
PID = 4321

pytestmark = pytest.mark.skipif(MACHINE not in AUDIT_ARCHITECTURES, reason=f"no filter for {MACHINE}")


def verdict(number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel would do: struct seccomp_data through the instructions of classic BPF."""
    words = [argument & (1 << 64) - 1 for argument in (*arguments, *[0] * 6)][:6]
    architecture = AUDIT_ARCHITECTURES[MACHINE] if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number & 0xFFFF_FFFF, architecture, 0, *words)
    program = list(struct.iter_unpack("<HBBI", filter_of(build_template(), PID)))
    place = accumulator = 0
    while True:
        code, if_true, if_false, constant = program[place]
        place += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x06:
            return int(constant)
        else:
            holds = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}
            place += if_true if holds[code] else if_false


@pytest.mark.parametrize("name", sorted(ALLOWED & NUMBERS.keys()))
def test_a_harmless_call_is_allowed_whatever_its_arguments(name: str) -> None:
    assert verdict(NUMBERS[name], -1, -1, -1) == ALLOW


@pytest.mark.parametrize("name", sorted(FORBIDDEN & NUMBERS.keys()))
def test_a_forbidden_call_is_told(name: str) -> None:
    assert verdict(NUMBERS[name]) == TELL


def test_every_other_number_fails_softly() -> None:
    known = set(NUMBERS.values())
    assert {verdict(number) for number in range(600) if number not in known} == {EPERM}
    assert verdict(0x4000_0000 + NUMBERS["getpid"]) == EPERM  # x86_64's x32 calls
    assert verdict(-1) == EPERM


def test_a_call_of_another_architecture_kills() -> None:
    assert verdict(NUMBERS["getpid"], architecture=0x4000_0003) == KILL


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (0x3D0F00,), ALLOW),  # a thread, as glibc starts it
        ("clone", (0x1200011,), TELL),  # a process, as glibc forks it
        ("clone3", (1, 88), ENOSYS),
        ("kill", (PID, 15), ALLOW),
        ("kill", (PID, 9), TELL),
        ("kill", (0, 15), TELL),
        ("kill", (-1, 15), TELL),
        ("kill", (PID + 1, 15), TELL),
        ("tgkill", (PID, PID, 6), ALLOW),
        ("tgkill", (PID, PID, 9), TELL),
        ("tgkill", (1, PID, 6), TELL),
        ("prlimit64", (0, 3, 0, 1), ALLOW),
        ("prlimit64", (0, 3, 4096, 0), ALLOW),
        ("prlimit64", (0, 0, 0, 1), ALLOW),  # reads its CPU limit
        ("prlimit64", (0, 0, 4096, 0), EPERM),  # lowers it
        ("prlimit64", (0, 0, 1 << 32, 0), EPERM),  # the same, from an address whose low half is 0
        ("prlimit64", (PID + 1, 3, 4096, 0), TELL),
        ("setrlimit", (0, 4096), EPERM),
        ("setrlimit", (3, 4096), ALLOW),
        ("fcntl", (1, 3), ALLOW),
        ("fcntl", (1, 4), ALLOW),
        *[("fcntl", (1, command), TELL) for command in (8, 10, 15, 1024, 1026)],
        *[("ioctl", (0, request), ALLOW) for request in (0x5401, 0x5413, 0x5421, 0x5451)],
        *[("ioctl", (0, request), EPERM) for request in (0x5412, 0x8901, 0x5410)],
        ("prctl", (15,), ALLOW),
        *[("prctl", (option,), EPERM) for option in (1, 4, 22, 36)],
        ("openat", (-100, 1, 0), ALLOW),
        ("openat", (-100, 1, 0o1000), EPERM),
        ("openat", (-100, 1, 0o1001), ALLOW),  # Landlock sees to writing
        ("socketpair", (1, 1 | 0o2000000), ALLOW),
        ("socketpair", (1, 2), TELL),
        ("socketpair", (2, 1), TELL),
        ("sendto", (3, 1, 1, 0, 0, 0), ALLOW),
        ("sendto", (3, 1, 1, 0, 4096, 16), TELL),
        ("sendto", (3, 1, 1, 0, 1 << 32, 16), TELL),
    ],
)
def test_a_call_is_judged_by_its_arguments(name: str, arguments: tuple[int, ...], expected: int) -> None:
    assert verdict(NUMBERS[name], *arguments) == expected


def test_the_two_lists_have_nothing_in_common_and_no_name_without_a_number() -> None:
    named = {row[0] for row in sandbox_syscalls._ROWS}
    assert not ALLOWED & FORBIDDEN
    assert named >= ALLOWED
    assert named >= FORBIDDEN


@pytest.mark.parametrize("column", [1, 2])
def test_no_number_is_given_twice(column: int) -> None:
    numbers = [row[column] for row in sandbox_syscalls._ROWS if row[column] != "-"]
    assert len(set(numbers)) == len(numbers)
