"""Ctrl-C while a passage is being written: the first one ends it in good order, the second at once.

Neither loses what was written. So does whatever else asks a process to end: a terminal that is closed, too.
"""

import signal
from types import FrameType, TracebackType
from typing import Self

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Within it, a signal to end only sets `signal`; whoever writes looks at `__call__` between tokens."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.signal = 0
        self.patient = True
        """Whether a second signal may end it at once; false while what was written is put into files."""
        before = {number: signal.getsignal(number) for number in _ENDING}
        # What our parent ignores for us, as nohup does, we go on ignoring.
        self._before = {number: what for number, what in before.items() if what is not signal.SIG_IGN}

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
        if self.signal and self.patient:
            raise KeyboardInterrupt
        self.stop(number)
