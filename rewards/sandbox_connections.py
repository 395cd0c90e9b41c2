"""Which connections of a server may hold a thread: a bound for those that may use it, and another for strangers."""

import contextlib
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_GRACE_S = 1.0  # in which nobody is turned out: ample for who sends its head at once


class Connections:
    """A connection is a stranger until its head is read and found to be allowed, and a guest from then on.

    Strangers cannot take a guest's place, and a slow one does not keep out other strangers: where there are
    ``max_strangers``, the oldest is hung up on for a new one.
    """

    def __init__(self, *, max_strangers: int, max_guests: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_strangers, self._max_guests = max_strangers, max_guests
        self._clock = clock
        self._changed = threading.Condition()
        self._strangers: OrderedDict[socket.socket, float] = OrderedDict()  # since when
        self._guests: set[socket.socket] = set()
        self._present: set[socket.socket] = set()  # with those that were hung up on and have not left yet

    def greet(self, connection: socket.socket) -> bool:
        """Whether a new connection may stay, as a stranger."""
        with self._changed:
            if len(self._strangers) >= self._max_strangers and not self._make_room():
                return False
            self._strangers[connection] = self._clock()
            self._present.add(connection)
            return True

    def admit(self, connection: socket.socket) -> bool:
        """Whether a stranger becomes a guest; it stays what it is where there are as many as may be."""
        with self._changed:
            if connection not in self._strangers or len(self._guests) >= self._max_guests:
                return False
            del self._strangers[connection]
            self._guests.add(connection)
            return True

    def leave(self, connection: socket.socket) -> None:
        with self._changed:
            self._strangers.pop(connection, None)
            self._guests.discard(connection)
            self._present.discard(connection)
            self._changed.notify_all()

    def wait_until_none(self, limit_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._present, limit_s)

    def _make_room(self) -> bool:
        oldest, since = next(iter(self._strangers.items()))
        if self._clock() - since < _GRACE_S:
            return False
        del self._strangers[oldest]
        with contextlib.suppress(OSError):  # it is about to leave by itself
            oldest.shutdown(socket.SHUT_RDWR)  # wakes its thread, which closes it
        return True
