"""What a request, or an occurrence, has let in already: told by the cohorts that are of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.database import TenantSession
from models import Cohort
from services.journeys.members import ENROLLMENT
from services.journeys.versions import LoadedVersion

REMEMBERED: Final = timedelta(hours=24)
"""How long a request knows what it has done: as long as its key is its own."""
LOCK_SPACE: Final = 7_302_131

_LOCK: Final = text("SELECT pg_advisory_xact_lock(:space, hashtext(:request))")


async def let_in_before(
    session: TenantSession, version: LoadedVersion, people: Sequence[UUID], request: UUID
) -> dict[UUID, UUID]:
    """Return the passages by person that an earlier attempt of the request has begun, and hold off the next one."""
    # The first attempt may have died with a page that is just being committed.
    await session.execute(_LOCK, {"space": LOCK_SPACE, "request": str(request)})
    given = func.unnest(bindparam("people", list(people), type_=ARRAY(Uuid))).column_valued("person_id")
    found = await session.execute(
        select(ENROLLMENT.c.subject_id, ENROLLMENT.c.id)
        .join(Cohort, (Cohort.tenant_id == ENROLLMENT.c.tenant_id) & (Cohort.id == ENROLLMENT.c.cohort_id))
        .where(
            ENROLLMENT.c.tenant_id == session.tenant_id,
            ENROLLMENT.c.journey_id == version.journey_id,
            ENROLLMENT.c.subject_id.in_(select(given)),
            Cohort.tenant_id == session.tenant_id,
            Cohort.request == request,
            Cohort.created_at > func.now() - REMEMBERED,
        )
        .order_by(ENROLLMENT.c.subject_id, ENROLLMENT.c.id)
    )
    return {row.subject_id: row.id for row in found}
