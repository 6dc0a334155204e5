"""Leaving cleanly when the system or the user asks for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether SIGINT or SIGTERM has arrived, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def catching_signals() -> Iterator[Interruption]:
    """Note the first SIGINT or SIGTERM instead of dying; a second one acts as usual.

    Outside the main thread, where Python cannot catch signals, nothing is caught.
    """
    noted = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    caught = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in caught}

    def note(number: int, frame: FrameType | None) -> None:
        noted.signal = signal.Signals(number)
        for again in caught:
            signal.signal(again, before[again])

    for number in caught:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number in caught:
            signal.signal(number, before[number])
