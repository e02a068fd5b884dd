"""A process that merges two people and is killed on the way: after so many statements, or once it has committed."""

import asyncio
import os
import signal
import sys
from typing import Any
from uuid import UUID

import asyncpg

from core.actor import CLI
from core.database import Database
from services.identity import merging, unmerging


async def main(url: str, tenant_id: UUID, verb: str, ids: list[UUID], most: int) -> None:
    """Do it; `most` statements after the transaction began the process is gone."""
    sent = 0
    prepare: Any = asyncpg.Connection.prepare

    async def counted(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on as they come
        nonlocal sent
        sent += 1
        if sent > most:
            os.kill(os.getpid(), signal.SIGKILL)
        return await prepare(*arguments, **options)

    asyncpg.Connection.prepare = counted
    async with Database(url).tenant(tenant_id) as session:
        if verb == "merge":
            await merging.merge(session, ids[0], ids[1], by=CLI)
        else:
            await unmerging.undo(session, ids[0], by=CLI)
    print(sent, flush=True)  # noqa: T201 - for the test
    os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(main(sys.argv[1], UUID(sys.argv[2]), sys.argv[3], [UUID(one) for one in sys.argv[5:]], int(sys.argv[4])))
