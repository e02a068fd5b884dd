"""Until when members wait, as planned: kept with their rows for whoever asks or mends; the workflow goes by its own.

The planner's clock and ours differ by what lies between a step and its answer.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Integer, Update, bindparam, column, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from core.database import TenantSession
from journeys import members as member_sets
from journeys.durations import zone_named
from journeys.waits import WaitNode
from models import Tenant
from services.journeys.members import ENROLLMENT, CohortMembers, movable
from services.journeys.versions import LoadedVersion

WAKE_AT: Final = ENROLLMENT.c.wake_at.type


async def wake_at(session: TenantSession, version: LoadedVersion, node: str, now: datetime) -> datetime | None:
    """Return until when one who arrives at `node` now waits there; None where nobody waits, or a step plans it."""
    waiting = version.definition.nodes[node]
    if isinstance(waiting, WaitNode) and waiting.clock_of == "tenant" and waiting.until is None:
        zone = await session.scalar(select(Tenant.time_zone).where(Tenant.id == session.tenant_id))
        return waiting.due(now, zone_named(zone or "UTC"))
    arrives = version.plan.arrival(node, now)
    return None if arrives is None else arrives[1]


async def planned(
    session: TenantSession, passage: tuple[str, int], members: CohortMembers, waits: Mapping[datetime, int]
) -> None:
    """Keep until when each of these members waits at the passage (node, visit), if they are there still."""
    by_slot = [(slot, due) for due, waiting in waits.items() for slot in member_sets.slots(waiting)]
    await session.execute(
        _keeping(session.tenant_id, members.cohort_id, passage),
        {"planned": [slot for slot, _ in by_slot], "wakes": [due for _, due in by_slot]},
    )


def _keeping(tenant_id: UUID, cohort_id: UUID, passage: tuple[str, int]) -> Update:
    given = (
        func.unnest(bindparam("planned", type_=ARRAY(Integer)), bindparam("wakes", type_=ARRAY(WAKE_AT)))
        .table_valued(column("slot", Integer), column("wake_at", WAKE_AT))
        .render_derived(name="given")
    )
    return (
        update(ENROLLMENT)
        .where(
            ENROLLMENT.c.tenant_id == tenant_id,
            ENROLLMENT.c.cohort_id == cohort_id,
            ENROLLMENT.c.slot == given.c.slot,
            *movable(ENROLLMENT, *passage),
        )
        .values(wake_at=given.c.wake_at)
    )
