"""System calls that Python 3.11 has no function for. The sandbox's only use of ctypes."""

import ctypes
import errno
import fcntl
import os
import struct

from rewards.sandbox_syscalls import MACHINE, NUMBERS

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38

_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4
_MNT_DETACH = 2
_M_ARENA_MAX = -8
_CAPABILITY_VERSION_3 = 0x2008_0522

# PyDLL would hold the interpreter's lock through the call; in the zygote nobody else wants it.
_libc = ctypes.CDLL(None, use_errno=True)


def system_call(name: str, *arguments: int | bytes | None) -> int:
    """Make the system call; integers are passed as machine words, bytes and None as pointers.

    Raises:
        OSError: the kernel refused, or this machine has no number for the call.
    """
    if name not in NUMBERS:
        raise OSError(errno.ENOSYS, f"{name}: no number is known on {MACHINE}")
    words = [ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value) for value in arguments]
    result = int(_libc.syscall(ctypes.c_long(NUMBERS[name]), *words))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


_libc.syscall.restype = ctypes.c_long


def address_of(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def buffer_of(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """Memory at a fixed address, for structures that hold pointers."""
    return ctypes.create_string_buffer(data, len(data))


def unshare(flags: int) -> None:
    system_call("unshare", flags)


def enter_namespace(descriptor: int, kind: int) -> None:
    system_call("setns", descriptor, kind)


def process_control(option: int, value: int) -> None:
    system_call("prctl", option, value, 0, 0, 0)


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    kind_bytes = None if kind is None else kind.encode()
    system_call("mount", os.fsencode(source), os.fsencode(target), kind_bytes, flags, options.encode())


def make_read_only(path: str, *, recursive: bool, devices: bool = False) -> None:
    """No writes, no set-user-id programs and, unless asked for, no device files; Linux 5.12 or later."""
    attributes = _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | (0 if devices else _MOUNT_ATTR_NODEV)
    request = struct.pack("<QQQQ", attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    system_call("mount_setattr", _AT_FDCWD, os.fsencode(path), flags, request, len(request))


def change_root(path: str) -> None:
    """Make ``path``, a mount, the root; what was the root before is gone from this mount namespace."""
    os.chdir(path)
    system_call("pivot_root", b".", b".")
    system_call("umount2", b".", _MNT_DETACH)
    os.chdir("/")


def drop_capabilities() -> None:
    """All of them, in every set that counts without an exec."""
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    system_call("capset", header, bytes(24))


def share_one_heap() -> None:
    """One arena of the C library for all threads: else each reserves 64 MiB of the address space that is limited."""
    _libc.mallopt(_M_ARENA_MAX, 1)


def duplicate_above(descriptor: int, lowest: int) -> int:
    """A copy of the descriptor, numbered ``lowest`` or higher."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, lowest)
