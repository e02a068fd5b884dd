"""A sender as a process of its own, to be killed: `python -m tests.sender.sender_process`."""

import asyncio
import signal

from core.database import Database
from core.settings import settings
from sender.loop import Sender


async def main() -> None:
    """Send until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = Database(settings().database_url, pool_size=5)
    await Sender(database, settings()).run(stop)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main())
