"""Landlock: this process may use the files that are named, and no others, from now on.

Source: the kernel's ``Documentation/userspace-api/landlock.rst``. Rights that a kernel does not know yet are left out.
"""

import os
import stat
import struct
from collections.abc import Iterable

from rewards.sandbox_kernel import system_call

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_IOCTL_DEV = 1 << 15
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_ON_FILES = 1 | _WRITE_FILE | _READ_FILE | 1 << 14 | _IOCTL_DEV
_SPECIAL_FILES = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11  # devices, sockets, pipes
_RULE_PATH_BENEATH = 1
_CREATE_RULESET_VERSION = 1
_TCP = 0b11  # bind and connect; ABI 4
_SCOPES = 0b11  # abstract sockets and signals stay within; ABI 6


def landlock_abi() -> int:
    """The kernel's version of Landlock.

    Raises:
        OSError: it has none, or it is switched off.
    """
    return system_call("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)


def restrict_files(abi: int, *, readable: Iterable[int], writable: Iterable[int]) -> None:
    """Allow reading beneath the ``readable`` descriptors, everything but special files beneath the ``writable``.

    Needs ``no_new_privs``. On its thread alone and what that thread starts: call it while there is but one.

    Raises:
        OSError: the kernel refused.
    """
    handled = _RIGHTS_BY_ABI[min(abi, max(_RIGHTS_BY_ABI))]
    attributes = struct.pack("<QQQ", handled, _TCP, _SCOPES)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = system_call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for descriptor in readable:
            _allow(ruleset, descriptor, _READ_FILE | _READ_DIR)
        for descriptor in writable:
            _allow(ruleset, descriptor, handled & ~_SPECIAL_FILES & ~_IOCTL_DEV & ~1)
        system_call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, descriptor: int, rights: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _ON_FILES
    rule = struct.pack("<Qi", rights, descriptor)
    system_call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, rule, 0)
