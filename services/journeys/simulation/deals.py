"""The deals of a simulation: a copy of what is known of them, that goes with them from stage to stage."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    DateTime,
    FromClause,
    Integer,
    bindparam,
    column,
    func,
    literal,
    select,
    table,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.database import TenantSession
from services.shared.related import DEALS

DEAL: Final = table(
    "simulated_deal",
    column("number", Integer),
    *(column(each.name, each.type) for each in DEALS.columns),
    column("recurring_minor", BigInteger),
    column("own_probability", Integer),
    column("competitors", JSONB),
)
"""The deals by their number in the audience, as they are on the virtual clock.

With the probability that is a deal's own, not its stage's, and what conditions do not read but stages may require.
"""
_TABLES: Final = (
    """
    CREATE TEMP TABLE simulated_deal (number int, LIKE crm_deal_facts, own_probability int, competitors jsonb)
    ON COMMIT DROP
    """,
    "CREATE UNIQUE INDEX ON simulated_deal (number)",
)
_NAMES: Final = ", ".join(each.name for each in DEALS.columns)
_COPY: Final = text(f"""
    INSERT INTO simulated_deal (number, {_NAMES}, recurring_minor, own_probability, competitors)
    SELECT s.number, {", ".join(f"d.{each.name}" for each in DEALS.columns)},
      d.recurring_minor, own.probability, own.competitors
    FROM simulated_subject s
    JOIN crm_deal_facts d ON d.id = s.subject_id
    JOIN deal own ON own.tenant_id = d.tenant_id AND own.id = d.id
    WHERE d.tenant_id = :tenant
""")  # noqa: S608 - names of columns, ours


async def copy(session: TenantSession) -> None:
    """Copy the audience's deals."""
    for statement in _TABLES:
        await session.execute(text(statement))
    await session.execute(_COPY, {"tenant": session.tenant_id})
    await session.execute(text("ANALYZE simulated_deal"))


def at(now: datetime) -> FromClause:
    """Return the deals as conditions ask about them at that moment."""
    rotting = func.coalesce(DEAL.c.rots_at < literal(now, DateTime(timezone=True)), False)
    kept = [each for each in DEAL.columns if each.name != "rotting"]
    return select(*kept, rotting.label("rotting")).subquery("d")


async def change(session: TenantSession, numbers: Sequence[int], values: Mapping[str, Any]) -> None:
    """Set the same of all these deals."""
    chosen = DEAL.c.number == func.any(bindparam("numbers", list(numbers), type_=ARRAY(Integer)))
    await session.execute(update(DEAL).where(chosen).values(values))


async def change_each(session: TenantSession, name: str, values: Mapping[int, Any]) -> None:
    """Set one column of deals, of each by its number."""
    given = (
        func.unnest(
            bindparam("numbers", list(values), type_=ARRAY(Integer)),
            bindparam("values", list(values.values()), type_=ARRAY(DEAL.c[name].type)),
        )
        .table_valued(column("number", Integer), column("value", DEAL.c[name].type))
        .render_derived(name="given")
    )
    await session.execute(update(DEAL).where(DEAL.c.number == given.c.number).values({name: given.c.value}))
