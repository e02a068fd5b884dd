"""The tree of organizations: who is above and below whom, and what they are together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError

MAX_DEPTH: Final = 50
"""Levels a tree may have; what walks it needs no other bound."""
MAX_SHOWN: Final = 1_000
"""Descendants shown in one answer."""

_LOCK = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('organization_tree:' || CAST(CAST(:tenant AS uuid) AS text), 0))"
)

_UP = """
    WITH RECURSIVE up AS (
      SELECT o.id, o.name, o.parent_id, 0 AS above FROM organization o
      WHERE o.tenant_id = :tenant AND o.id = :organization
      UNION ALL
      SELECT o.id, o.name, o.parent_id, up.above + 1
      FROM up JOIN organization o ON o.tenant_id = :tenant AND o.id = up.parent_id
      WHERE up.above < :depth
    )
"""
_DOWN = """
    WITH RECURSIVE down AS (
      SELECT o.id, o.name, o.parent_id, 0 AS below FROM organization o
      WHERE o.tenant_id = :tenant AND o.id = :organization
      UNION ALL
      SELECT o.id, o.name, o.parent_id, down.below + 1
      FROM down JOIN organization o ON o.tenant_id = :tenant AND o.parent_id = down.id
      WHERE down.below < :depth
    )
"""
_ANCESTORS = text(f"""
    {_UP}
    SELECT id, name, parent_id, above FROM up ORDER BY above DESC
""")  # noqa: S608 - constants of this module
_DESCENDANTS = text(f"""
    {_DOWN}
    SELECT id, name, parent_id, below FROM down WHERE below > 0 ORDER BY below, name, id LIMIT :limit
""")  # noqa: S608 - constants of this module
_HEIGHT = text(f"""
    {_DOWN}
    SELECT max(below) FROM down
""")  # noqa: S608 - constants of this module
_BALANCES = text(f"""
    {_DOWN}
    SELECT o.currency, count(*) AS organizations, sum(o.balance_minor) AS balance_minor
    FROM down JOIN organization o ON o.tenant_id = :tenant AND o.id = down.id
    GROUP BY o.currency ORDER BY o.currency
""")  # noqa: S608 - constants of this module
_PEOPLE = f"""
    {_DOWN},
    people AS (
      SELECT DISTINCT l.person_id
      FROM down JOIN organization_current_people l ON l.tenant_id = :tenant AND l.organization_id = down.id
    )
"""  # noqa: S608 - constants of this module
_COUNT = text(f"""
    {_PEOPLE}
    SELECT count(*) FROM people
""")  # noqa: S608 - constants of this module
# As an array: with a join the view would first add up the orders of everybody.
_ORDERS = text(f"""
    {_PEOPLE}
    SELECT t.currency, sum(t.order_count) AS order_count, sum(t.spent_minor) AS spent_minor
    FROM commerce_customer_totals t
    WHERE t.tenant_id = :tenant AND t.person_id = ANY(ARRAY(SELECT person_id FROM people))
    GROUP BY t.currency ORDER BY t.currency
""")  # noqa: S608 - constants of this module


@dataclass(frozen=True, slots=True)
class Relative:
    """An organization above or below another."""

    id: UUID
    name: str
    parent_id: UUID | None
    level: int
    """How many steps away; negative above."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Where an organization stands."""

    ancestors: list[Relative]
    """The root first."""
    descendants: list[Relative]
    """Level by level."""
    complete: bool
    """Whether all descendants down to the depth asked for are there."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """An organization and all below it, taken together."""

    organizations: int
    people: int
    """Who has a link that holds today to any of them, each counted once."""
    balance_minor: dict[str, int]
    """What they owe, by currency."""
    order_count: int
    spent_minor: dict[str, int]
    """What those people bought net of refunds, by currency."""


async def lock(session: TenantSession) -> None:
    """Let nobody else change the tenant's tree until the transaction ends; to be taken before rows of it."""
    await session.execute(_LOCK, {"tenant": session.tenant_id})


async def lock_for(session: TenantSession, fields: Mapping[str, Any]) -> None:
    """As `lock`, where these fields of an organization bear on the tree."""
    if fields.get("parent_id") is not None:
        await lock(session)


async def check_move(session: TenantSession, organization_id: UUID | None, parent_id: UUID | None) -> None:
    """Check that an organization, or with None a new one, may stand below the parent; the tree is locked.

    Raises:
        InvalidError: there is no such parent, or the tree would have more than `MAX_DEPTH` levels.
        ConflictError: the parent is the organization itself or below it.
    """
    if parent_id is None:
        return
    known = {"tenant": session.tenant_id, "depth": MAX_DEPTH}
    above = (await session.execute(_ANCESTORS, {**known, "organization": parent_id})).all()
    if not above:
        raise InvalidError.of("parent_id", "there is no such organization")
    if organization_id in {row.id for row in above}:
        reason = "is the organization itself or below it"
        raise ConflictError(
            f"Organization {parent_id} cannot be above {organization_id}: it {reason}.",
            errors=[FieldProblem("parent_id", reason)],
        )
    height = 0 if organization_id is None else await session.scalar(_HEIGHT, {**known, "organization": organization_id})
    if len(above) + 1 + (height or 0) > MAX_DEPTH:
        raise InvalidError.of("parent_id", f"would make the tree deeper than {MAX_DEPTH} levels")


async def tree(session: TenantSession, organization_id: UUID, *, depth: int = MAX_DEPTH) -> Tree:
    """Return what is above the organization, and what is at most `depth` levels below it."""
    known = {"tenant": session.tenant_id, "organization": organization_id}
    above = (await session.execute(_ANCESTORS, {**known, "depth": MAX_DEPTH})).all()
    below = (await session.execute(_DESCENDANTS, {**known, "depth": depth, "limit": MAX_SHOWN + 1})).all()
    return Tree(
        ancestors=[Relative(row.id, row.name, row.parent_id, -row.above) for row in above if row.above],
        descendants=[Relative(row.id, row.name, row.parent_id, row.below) for row in below[:MAX_SHOWN]],
        complete=len(below) <= MAX_SHOWN,
    )


async def rollup(session: TenantSession, organization_id: UUID) -> Rollup:
    """Return what the organization and all below it are together."""
    values = {"tenant": session.tenant_id, "organization": organization_id, "depth": MAX_DEPTH}
    balances = (await session.execute(_BALANCES, values)).all()
    orders = (await session.execute(_ORDERS, values)).all()
    return Rollup(
        organizations=sum(row.organizations for row in balances),
        people=await session.scalar(_COUNT, values) or 0,
        balance_minor={row.currency: int(row.balance_minor) for row in balances},
        order_count=sum(int(row.order_count) for row in orders),
        spent_minor={row.currency: int(row.spent_minor) for row in orders},
    )
