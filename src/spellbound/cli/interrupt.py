"""Ctrl-C while a passage is being written: the first one ends it in good order, the second at once."""

import signal
from types import FrameType, TracebackType
from typing import Self


class Interruption:
    """Within it, SIGINT and SIGTERM only set `signal`; whoever writes looks at `__call__` between tokens."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.signal = 0
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.signal != 0

    @property
    def status(self) -> int:
        """Exit status of a process ended by the signal; 0 if none came."""
        return 128 + self.signal if self.signal else 0

    def stop(self, number: int) -> None:
        """Ask to stop as if this signal had come."""
        self.signal = number

    def __enter__(self) -> Self:
        """Begin to listen."""
        for number in self._before:
            signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.stop(number)
