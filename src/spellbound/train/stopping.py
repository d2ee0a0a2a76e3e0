"""SIGINT and SIGTERM while training: the step is finished and a checkpoint written before the run ends."""

from __future__ import annotations

import signal
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Within it, a signal to end is only noted; a second one ends at once."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.number = 0

    def __call__(self) -> bool:
        """Whether one has come."""
        return self.number != 0

    @property
    def status(self) -> int:
        """Exit status of a process that was asked to end, itself or by way of another process."""
        return 128 + (self.number or signal.SIGINT)

    def __enter__(self) -> Stop:
        """Begin to listen."""
        self._before = {number: signal.signal(number, self._take) for number in ENDING}
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number
