"""A seccomp filter: the system calls that a sandboxed program may make, as a program for the kernel's BPF machine.

The filter is a search tree over call numbers, because the kernel runs it once for each number when it is installed, to
learn which calls need no check later. Of a forbidden call the kernel tells the parent (``SECCOMP_RET_USER_NOTIF``),
which ends the process and knows the call's name from a witness that the program cannot reach.

Source: the kernel's ``Documentation/userspace-api/seccomp_filter.rst``, ``include/uapi/linux/{seccomp,filter}.h``.
"""

import fcntl
import struct
import sys

from rewards.sandbox_kernel import address_of, buffer_of, system_call
from rewards.sandbox_syscalls import ALLOWED, AUDIT_ARCHITECTURES, FORBIDDEN, MACHINE, NUMBERS

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant
Block = tuple[Instruction, ...]

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_GREATER_EQUAL, _IF_BITS = 0x15, 0x35, 0x45
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data

_ALLOW: Block = ((_RETURN, 0, 0, 0x7FFF_0000),)
_KILL: Block = ((_RETURN, 0, 0, 0x8000_0000),)
_TELL: Block = ((_RETURN, 0, 0, 0x7FC0_0000),)
_EPERM: Block = ((_RETURN, 0, 0, 0x0005_0000 | 1),)
_ENOSYS: Block = ((_RETURN, 0, 0, 0x0005_0000 | 38),)  # tells the C library to fall back on an older call

_SECCOMP_SET_MODE_FILTER, _FLAG_NEW_LISTENER = 1, 1 << 3
_NOTIF_RECEIVE = 0xC050_2100  # SECCOMP_IOCTL_NOTIF_RECV
_NOTIF_SIZE, _NOTIF_NUMBER_AT = 80, 16

_ANY_PID = 0x7FED_CBA9  # larger than any process id, and no other constant of the filter
_CLONE_THREAD = 0x0001_0000
_SIGKILL = 9  # of itself it would look like the host's doing, which is never scored
_AF_UNIX, _SOCK_STREAM = 1, 1
_RLIMIT_CPU = 0  # lowering it would bring such a SIGKILL about
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
# F_SETOWN, F_SETSIG, F_SETOWN_EX make the kernel send any signal to any process of the user; F_SETLEASE, F_NOTIFY.
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
# TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL_ALLOWED = (0x5401, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_PRCTL_ALLOWED = (3, 15, 16, 23, 39)  # reads, and the thread's name


def filter_of(template: bytes, pid: int) -> bytes:
    """The filter of the process that knows itself as ``pid``: the only one that it may send signals to."""
    return template.replace(struct.pack("<I", _ANY_PID), struct.pack("<I", pid))


def build_template() -> bytes:
    """A filter but for the process's id: building takes longer than all else that confines a process.

    Raises:
        OSError: the machine is neither x86_64 nor aarch64.
    """
    if MACHINE not in AUDIT_ARCHITECTURES:
        raise OSError(38, f"no filter of system calls for {MACHINE}: x86_64 and aarch64 have one")
    blocks = dict.fromkeys((NUMBERS[name] for name in ALLOWED if name in NUMBERS), _ALLOW)
    blocks |= dict.fromkeys((NUMBERS[name] for name in FORBIDDEN if name in NUMBERS), _TELL)
    blocks |= {NUMBERS[name]: block for name, block in _checked(_ANY_PID).items() if name in NUMBERS}
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, AUDIT_ARCHITECTURES[MACHINE]),
        *_KILL,  # a 32-bit call would be numbered otherwise
        (_LOAD, 0, 0, _NUMBER_AT),
        *_tree(_segments(blocks)),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def install_filter(program: bytes) -> int:
    """Bind this process to the filter; needs ``no_new_privs``. Returns where the kernel tells of forbidden calls.

    Raises:
        OSError: the kernel refused.
    """
    code = buffer_of(program)
    header = struct.pack("@HxxxxxxQ", len(program) // 8, address_of(code))
    return system_call("seccomp", _SECCOMP_SET_MODE_FILTER, _FLAG_NEW_LISTENER, header)


def read_notification(listener: int) -> str | None:
    """The name of the forbidden call that a process waits in; None when it has been killed meanwhile."""
    notification = bytearray(_NOTIF_SIZE)
    try:
        fcntl.ioctl(listener, _NOTIF_RECEIVE, notification)
    except FileNotFoundError:
        return None
    number = struct.unpack_from("=i", notification, _NOTIF_NUMBER_AT)[0]
    names = {known: name for name, known in NUMBERS.items()}
    return {"clone": "fork"}.get(names[number], names[number])


def _checked(pid: int) -> dict[str, Block]:
    """Calls that depend on their arguments."""
    own_process = (_load(0), (_IF_EQUAL, 1, 0, pid), *_TELL, _load(1), (_IF_EQUAL, 0, 1, _SIGKILL), *_TELL, *_ALLOW)
    own_thread = (_load(0), (_IF_EQUAL, 1, 0, pid), *_TELL, _load(2), (_IF_EQUAL, 0, 1, _SIGKILL), *_TELL, *_ALLOW)
    own_limits = (_load(0), (_IF_EQUAL, 1, 0, 0), *_TELL, _load(1), (_IF_EQUAL, 1, 0, _RLIMIT_CPU), *_ALLOW)
    reading_limits = (_load(2), (_IF_EQUAL, 0, 3, 0), _load_high(2), (_IF_EQUAL, 0, 1, 0), *_ALLOW, *_EPERM)
    return {
        "clone": (_load(0), (_IF_BITS, 0, 1, _CLONE_THREAD), *_ALLOW, *_TELL),
        "clone3": _ENOSYS,  # its flags are behind a pointer, which a filter cannot follow
        "kill": own_process,
        "tgkill": own_thread,
        "prlimit64": (*own_limits, *reading_limits),
        "setrlimit": (_load(0), (_IF_EQUAL, 0, 1, _RLIMIT_CPU), *_EPERM, *_ALLOW),
        "fcntl": (_load(1), *_among(_FCNTL_REFUSED), *_TELL, *_ALLOW),
        "ioctl": (_load(1), *_among(_IOCTL_ALLOWED), *_ALLOW, *_EPERM),
        "prctl": (_load(0), *_among(_PRCTL_ALLOWED), *_ALLOW, *_EPERM),
        # opened for reading and cut to nothing: Landlock before ABI 3 would not see it
        "open": (_load(1), *_CUTS, *_EPERM, *_ALLOW),
        "openat": (_load(2), *_CUTS, *_EPERM, *_ALLOW),
        "creat": _ALLOW,
        # asyncio's pipe to itself; a stream socket that is paired can be sent nowhere else
        "socketpair": (_load(0), (_IF_EQUAL, 1, 0, _AF_UNIX), *_TELL, _load(1), *_STREAM, *_ALLOW, *_TELL),
        "sendto": (_load(4), (_IF_EQUAL, 1, 0, 0), *_TELL, _load_high(4), (_IF_EQUAL, 0, 1, 0), *_ALLOW, *_TELL),
    }


def _load(argument: int) -> Instruction:
    assert sys.byteorder == "little"
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument)


def _load_high(argument: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument + 4)


def _among(values: tuple[int, ...]) -> Block:
    """Goes on with the next instruction for one of the values, else jumps over it."""
    last = len(values) - 1
    return tuple((_IF_EQUAL, last - place, 0 if place < last else 1, value) for place, value in enumerate(values))


_CUTS: Block = ((_AND, 0, 0, _O_TRUNC | _O_ACCMODE), (_IF_EQUAL, 0, 1, _O_TRUNC))
_STREAM: Block = ((_AND, 0, 0, 0xFF), (_IF_EQUAL, 0, 1, _SOCK_STREAM))


def _segments(blocks: dict[int, Block]) -> list[tuple[int, Block]]:
    """From which number on which block holds; numbers without one get EPERM."""
    segments: list[tuple[int, Block]] = []
    for number in range(max(blocks) + 2):
        block = blocks.get(number, _EPERM)
        if not segments or segments[-1][1] != block:
            segments.append((number, block))
    return segments


def _tree(segments: list[tuple[int, Block]]) -> list[Instruction]:
    if len(segments) == 1:
        return list(segments[0][1])
    middle = len(segments) // 2
    low, high = _tree(segments[:middle]), _tree(segments[middle:])
    assert len(low) < 256  # a jump's reach
    return [(_IF_GREATER_EQUAL, len(low), 0, segments[middle][0]), *low, *high]
