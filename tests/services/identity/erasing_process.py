"""An erasure in a process of its own, to be killed; `python -m` it with the database's URL, a tenant and a person."""

import asyncio
import sys
from uuid import UUID

from core.database import Database
from tests.factories.erasing import erased


async def main(url: str, tenant_id: UUID, person_id: UUID) -> None:
    """Erase."""
    database = Database(url, pool_size=1)
    await erased(database, tenant_id, person_id)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], UUID(sys.argv[2]), UUID(sys.argv[3])))
