"""Reading from a socket until a moment in time. A socket's own timeout starts anew with every byte that trickles in."""

import io
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def seconds_left(deadline: float) -> float:
    """Until ``deadline``, of ``time.monotonic``.

    Raises:
        TimeoutError: it has passed.
    """
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("not all came in time")
    return left_s


class DeadlineReader(io.RawIOBase):
    """What comes in through a socket until ``deadline``, which may be moved. Sets the socket's timeout as it goes.

    Raises:
        TimeoutError: from each read once the deadline has passed, also amid one.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.deadline = deadline
        self._connection = connection
        self._incoming = connection.makefile("rb", buffering=0)  # keeps the socket open until this is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        self._connection.settimeout(seconds_left(self.deadline))
        return self._incoming.readinto(buffer)

    def close(self) -> None:
        self._incoming.close()
        super().close()
