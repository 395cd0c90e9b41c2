"""Room for programs that recurse deeply: two requests that judges grant, and that would be errors within the limits.

    threading.stack_size(1 << 29)
    resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

Neither fails here, and neither lifts a limit: a thread gets a share of the memory, the main thread keeps the stack that
it has. Calls from Python to Python take nothing from either (since 3.11), only those through C do.
"""

import _thread
import resource
import threading

_SHARE = 4  # of the address space, to one thread's stack at most
_set_stack_size, _set_limit = threading.stack_size, resource.setrlimit


def grant_stacks() -> None:
    """For this process, which is a program's."""
    threading.stack_size = _thread.stack_size = _stack_size
    resource.setrlimit = _setrlimit


def _stack_size(size: int = 0, /) -> int:
    most = resource.getrlimit(resource.RLIMIT_AS)[0] // _SHARE
    return _set_stack_size(min(size, most - most % resource.getpagesize()))


def _setrlimit(which: int, limits: tuple[int, int], /) -> None:
    if which != resource.RLIMIT_STACK:
        _set_limit(which, limits)
