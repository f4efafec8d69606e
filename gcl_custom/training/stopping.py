"""Signals that ask a training to end: it takes its step to the end, saves, and says so."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from gcl_custom.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Of ``kill`` and of a scheduler before the time is up, and of Ctrl-C."""


class StopRequests:
    """Notes these signals while it is entered. A second one ends the process at once, without saving.

    Only the main thread of a process gets signals; in another one nothing is noted.

    Args:
        saves: whether this process can save alone. Otherwise signals end it at once, as without this.
    """

    def __init__(self, saves: bool = True) -> None:
        self._saves = saves
        self._asked: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequests":
        if self._saves and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self._asked is not None

    def stop(self) -> None:
        """End as the signal asked.

        Raises:
            Stopped: always.
        """
        assert self._asked is not None
        raise Stopped(self._asked)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self:
            raise Stopped(number)
        self._asked = number
