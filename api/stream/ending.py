"""Hearing that the process is to end before the server waits for its answers to end.

uvicorn first waits until every answer is given and ends the lifespan after that, so an answer without end would hold
it up for ever. Its own handlers of the signals are called after ours.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_end(part: Callable[[], None]) -> Generator[None]:
    """Call `part` in the event loop once the process is told to end; nothing where signals go to another thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def told(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(part)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    wrapped = [number for number in SIGNALS if callable(before[number])]
    for number in wrapped:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number in wrapped:
            if signal.getsignal(number) is told:
                signal.signal(number, before[number])
