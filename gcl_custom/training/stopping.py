"""Signals that ask a training to end: it takes its step to the end, saves, and says so."""

import ctypes
import multiprocessing
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
        shared: whether processes that are started with this object see what the first one notes. They note nothing
            themselves.
    """

    def __init__(self, shared: bool = False) -> None:
        # Without a lock, which a process that is killed would keep.
        self._number = multiprocessing.get_context("spawn").RawValue("i", 0) if shared else ctypes.c_int(0)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_before": {}}

    def __bool__(self) -> bool:
        return self._number.value != 0

    def stop(self) -> None:
        """End as the signal asked.

        Raises:
            Stopped: always.
        """
        assert self
        raise Stopped(self._number.value)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self:
            raise Stopped(number)
        self._number.value = number
