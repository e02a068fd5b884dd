"""Senders alone, without workflows or a relay: `python -m sender.process [--processes N]`.

The processes are forked from one that has loaded all modules, so they share that memory. One that dies is replaced, and
finds its predecessor's journal.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Final

import uvloop

from core import exporting, logging, memory
from core.database import Database
from core.presence import present
from core.settings import Settings, settings
from sender.loop import Sender

_CONNECTIONS: Final = 6
"""To the store: pages being read and recorded, and the lease."""
_REPLACED_AFTER_SECONDS: Final = 1.0

log = logging.get_logger(__name__)


async def run(configuration: Settings) -> None:
    """Send until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    database = Database(
        configuration.database_url, pool_size=min(_CONNECTIONS, max(2, configuration.database_pool_size))
    )
    try:
        async with exporting.traces("throughline-sender"), present("sender", database, configuration):
            await Sender(database, configuration).run(stop)
    finally:
        await database.close()


class Senders:
    """Sender processes, kept at their number until a signal comes."""

    def __init__(self, configuration: Settings, count: int) -> None:
        """Prepare."""
        self._configuration = configuration
        self._count = count
        self._children: set[int] = set()
        self._stopping = False

    def run(self) -> None:
        """Run them until SIGTERM or SIGINT, and until the last has ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        while len(self._children) < self._count and not self._stopping:
            self._start()
        while self._children:
            pid, status = os.wait()
            self._children.discard(pid)
            if not self._stopping:
                log.warning("sender_ended", pid=pid, status=os.waitstatus_to_exitcode(status))
                time.sleep(_REPLACED_AFTER_SECONDS)
                if not self._stopping:
                    self._start()

    def _start(self) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._children.add(pid)
            if self._stopping:  # asked meanwhile
                os.kill(pid, signal.SIGTERM)
            return
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            if os.getppid() == parent:
                uvloop.run(run(self._configuration))
                code = 0
        except KeyboardInterrupt:
            code = 0
        except Exception as error:  # what ends a process is to be read in its log
            log.exception("sender_failed", exc_info=error)
        finally:
            sys.stdout.flush()
            os._exit(code)  # nothing of the parent's is to be tidied up here

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def main(arguments: list[str]) -> None:
    """Run as many senders as asked for."""
    parser = argparse.ArgumentParser(prog="throughline sender")
    parser.add_argument("--processes", type=int, default=1)
    count: int = parser.parse_args(arguments).processes
    configuration = settings()
    logging.configure(configuration.log_level)
    memory.settle()
    if count == 1:
        uvloop.run(run(configuration))
    else:
        Senders(configuration, count).run()


if __name__ == "__main__":
    main(sys.argv[1:])
