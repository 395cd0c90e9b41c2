"""The hostile programs of ``attacks.txt``."""

import re
from dataclasses import dataclass
from pathlib import Path

ESCAPED = "ESCAPED"
_RAW = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def raw(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
"""
_HEADING = re.compile(r"^=== (.+) / (\w+) / (script|call) / ([a-z_ ]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    name: str
    kind: str  # the class of threat that it belongs to
    code: str
    script: bool
    may_end_as: tuple[str, ...]  # statuses; empty: any but a sandbox failure


def _read() -> tuple[Attack, ...]:
    parts = _HEADING.split(Path(__file__).with_suffix(".txt").read_text(encoding="utf-8"))[1:]
    return tuple(
        Attack(
            name=name,
            kind=kind,
            code=code.replace("@RAW@", _RAW),
            script=how == "script",
            may_end_as=() if statuses == "any" else tuple(statuses.split()),
        )
        for kind, name, how, statuses, code in zip(*[iter(parts)] * 5, strict=True)
    )


ATTACKS = _read()
X86_64_ONLY = frozenset(attack.name for attack in ATTACKS if "raw(" in attack.code or "mmap.mmap" in attack.code)
