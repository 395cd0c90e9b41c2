"""A circuit breaker: while a server is away, one request at a time tries it, and the others wait or give up."""

import threading
import time
from collections.abc import Callable

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 10.0
_LOOK_S = 0.05  # between two looks of those who wait


class OutageError(Exception):
    """The server has been away for longer than anyone is to wait for it."""


class CircuitBreaker:
    """Opens after ``threshold`` failures in a row, of whichever threads; one success closes it.

    While it is open, one caller at a time is let through to try the server, after pauses that double. The others wait;
    once the server has been away for ``patience_s``, they are told so at once, and only the one that tries goes on. So
    an outage shorter than that loses nothing, and a longer one holds nobody up.
    """

    def __init__(
        self, *, threshold: int = 5, patience_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._patience_s = patience_s
        self._clock = clock
        self._changed = threading.Condition()
        self._num_failed = 0  # in a row
        self._num_trials = 0  # that failed, since it opened
        self._down_since = 0.0
        self._try_at = 0.0
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        return self._num_failed >= self._threshold

    @property
    def is_given_up(self) -> bool:
        """Whether the server has been away for longer than anyone is to wait."""
        return self.is_open and self._clock() - self._down_since > self._patience_s

    def wait_for_turn(self) -> bool:
        """Return when a request may be made, and whether it is a trial. What came of it must be reported.

        Raises:
            OutageError: the server has been away for too long.
        """
        with self._changed:
            while self.is_open:
                now = self._clock()
                if not self._is_trying and now >= self._try_at:
                    self._is_trying = True
                    return True
                if self.is_given_up:
                    away_s = now - self._down_since
                    raise OutageError(f"away for {away_s:.0f} s, after {self._num_failed} failures in a row")
                self._changed.wait(_LOOK_S)
            return False

    def report(self, *, is_up: bool, is_trial: bool) -> None:
        """What a request found. Once open, only a trial's failure delays the next one: the others set out before."""
        with self._changed:
            now = self._clock()
            was_open = self.is_open
            if is_trial:
                self._is_trying = False
            if is_up:
                self._num_failed = self._num_trials = 0
            else:
                self._down_since = self._down_since if self._num_failed else now
                self._num_failed += 1
                self._num_trials += is_trial
            if self.is_open and (is_trial or not was_open):
                self._try_at = now + min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._num_trials, 16))
            self._changed.notify_all()
