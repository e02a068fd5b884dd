"""What tenants declare of their events, as this process knows it: asked for once in `TTL` seconds a tenant.

A change made in this process holds here at once, and elsewhere within `TTL`.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, cast
from uuid import UUID

from core.database import Database
from services.events import declared
from services.events.declared import Declarations, Misfit

TTL: Final = 10.0
CAPACITY: Final = 2_000
"""Tenants remembered; whoever was away longest goes first."""


class DeclaredTypes:
    """The declarations that this process knows."""

    def __init__(self, database: Database) -> None:
        """Ask `database`."""
        self._database = database
        self._known: OrderedDict[UUID, tuple[float, Declarations]] = OrderedDict()
        self._changes = 0

    def known(self, tenant_id: UUID) -> Declarations | None:
        """Return what the tenant declares, where it need not be asked for: what a hot route tries first."""
        found = self._known.get(tenant_id)
        return found[1] if found is not None and found[0] > time.monotonic() else None

    async def of(self, tenant_id: UUID) -> Declarations:
        """Return what the tenant declares."""
        if (known := self.known(tenant_id)) is not None:
            return known
        began, changes = time.monotonic(), self._changes
        async with self._database.hot(tenant_id) as connection:
            found = await declared.load(cast("declared.Connection", connection), tenant_id)
        if changes != self._changes:
            return found  # it may be older than the change
        self._known[tenant_id] = (began + TTL, found)
        self._known.move_to_end(tenant_id)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)
        return found

    def forget(self, tenant_id: UUID) -> None:
        """Ask the store again; call it when the change is committed."""
        self._changes += 1
        self._known.pop(tenant_id, None)

    async def note(self, tenant_id: UUID, misfits: Sequence[Misfit]) -> None:
        """Count events that did not fit: apart, as a request that is refused writes nothing else."""
        if misfits:
            async with self._database.hot(tenant_id) as connection:
                await declared.note(cast("declared.Connection", connection), tenant_id, misfits)
