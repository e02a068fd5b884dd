"""What tenants declare of their events, as this process knows it."""

from collections.abc import Sequence
from typing import Final, cast
from uuid import UUID

from api.remembered import Remembered
from core.database import Database
from services.events import declared
from services.events.declared import NOTHING_DECLARED, Declarations, Misfit

TTL: Final = 10.0
"""Seconds that the store's answer is believed."""
CAPACITY: Final = 2_000
"""Tenants remembered."""


class DeclaredTypes:
    """The declarations that this process knows."""

    def __init__(self, database: Database) -> None:
        """Ask `database`."""
        self._database = database
        self._remembered = Remembered[UUID, Declarations](CAPACITY)
        self.known = self._remembered.get
        """Returns what a tenant declares, where it need not be asked for: what a hot route tries first."""
        self.forget = self._remembered.forget
        """Has the store asked again; to be called when a tenant's change is committed."""

    async def of(self, tenant_id: UUID) -> Declarations:
        """Return what the tenant declares."""

        async def look_up() -> tuple[Declarations, float]:
            async with self._database.hot(tenant_id) as connection:
                return await declared.load(cast("declared.Connection", connection), tenant_id), TTL

        return await self._remembered.ask(tenant_id, look_up) or NOTHING_DECLARED

    async def note(self, tenant_id: UUID, misfits: Sequence[Misfit]) -> None:
        """Count events that did not fit: apart, as a request that is refused writes nothing else."""
        if misfits:
            async with self._database.hot(tenant_id) as connection:
                await declared.note(cast("declared.Connection", connection), tenant_id, misfits)
