"""What the store holds of a tenant, to see whether anything of it changed.

One connection, and one plan for the statement over all tables: planning it takes far longer than answering it.
"""

from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from models import Base

_TABLES: Final = sorted(name for name, table in Base.metadata.tables.items() if "tenant_id" in table.columns)
_EVERYTHING: Final = " UNION ALL ".join(
    f"SELECT '{name}' AS name, coalesce(md5(string_agg(r::text, '|' ORDER BY r::text)), '') AS hash"
    f" FROM {name} AS r WHERE r.tenant_id = $1"
    for name in _TABLES
)


class Contents:
    """Of the tenants in one database."""

    def __init__(self, url: str) -> None:
        """Connect to `url`, as a superuser, when first asked."""
        self._url = url
        self._connection: asyncpg.Connection[Any] | None = None
        self._statement: PreparedStatement[Any] | None = None

    async def of(self, tenant_id: UUID) -> dict[str, str]:
        """Return a hash of all rows of a tenant, by table."""
        if self._statement is None:
            one_plan = {"plan_cache_mode": "force_generic_plan"}
            self._connection = await asyncpg.connect(self._url, server_settings=one_plan)
            self._statement = await self._connection.prepare(_EVERYTHING)
        return {row["name"]: row["hash"] for row in await self._statement.fetch(tenant_id)}

    async def close(self) -> None:
        """Leave the database."""
        if self._connection is not None:
            await self._connection.close()
