"""Why deals were lost."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, text
from sqlalchemy.types import DateTime, Integer

from core.database import TenantSession
from services.crm import rates
from services.crm.reports.periods import Days
from services.crm.reports.scope import Scope

MAX_REASONS: Final = 200

_LOST: Final = """
    WITH reason AS MATERIALIZED (
      SELECT d.lost_reason, count(*) AS deals, sum(d.base_minor) AS minor
      FROM deal d
      WHERE d.tenant_id = :tenant AND d.closed_at IS NOT NULL AND d.closed_at >= :since AND d.closed_at < :before
        AND d.status = 'lost' {scope}
      GROUP BY d.lost_reason
    )
    SELECT lost_reason, deals, minor, (SELECT sum(deals) FROM reason) AS all_deals,
           (SELECT sum(minor) FROM reason) AS all_minor
    FROM reason ORDER BY deals DESC, minor DESC, lost_reason LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Reason:
    """Deals that were lost for a reason."""

    reason: str | None
    """As it was written; None of those without one."""
    deals: int
    minor: int
    """Together, in smallest units of the base currency."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The reasons named most, the most frequent first, and all lost deals together."""

    base_currency: str
    reasons: list[Reason]
    deals: int
    minor: int


async def read(session: TenantSession, days: Days, scope: Scope, *, limit: int) -> Lost:
    """Return for which reasons deals were lost that closed in some days.

    Raises:
        NotFoundError: no such pipeline in this tenant.
    """
    await scope.check(session)
    statement = text(_LOST.format(scope=scope.where)).bindparams(
        bindparam("since", days.since, type_=DateTime(timezone=True)),
        bindparam("before", days.before, type_=DateTime(timezone=True)),
        bindparam("limit", limit, type_=Integer),
        *scope.parameters,
    )
    rows = (await session.execute(statement, {"tenant": session.tenant_id})).all()
    return Lost(
        await rates.base_of(session),
        [Reason(row.lost_reason, row.deals, int(row.minor)) for row in rows],
        int(rows[0].all_deals) if rows else 0,
        int(rows[0].all_minor) if rows else 0,
    )
