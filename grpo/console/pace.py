"""How fast a run goes, and how long it still takes."""

import time
from collections import deque

PACE_STEPS = 20  # time left follows from the pace of this many last steps


class Pace:
    """Time left, from the wall clock of the last steps: evaluations and checkpoints count in their share."""

    def __init__(self, total_steps: int) -> None:
        self._total = total_steps
        self._points: deque[tuple[int, float]] = deque(maxlen=PACE_STEPS + 1)

    def record(self, step: int) -> None:
        self._points.append((step, time.monotonic()))

    def left(self) -> str:
        """Such as ``3:12 left``, counting down between steps; empty as long as there is no pace."""
        if len(self._points) < 2 or self._points[-1][0] == self._points[0][0]:
            return ""
        (first, began), (last, ended) = self._points[0], self._points[-1]
        remaining = (self._total - last) * (ended - began) / (last - first) - (time.monotonic() - ended)
        minutes, seconds = divmod(max(0, round(remaining)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"
