"""Rows of deals, many at a time: locked, inserted and written back by one statement each."""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from sqlalchemy import TextClause, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from core.database import TenantSession
from core.ids import new_ids
from models import Deal, DealLine, Organization, UserAccount
from services.crm.deal_fields import Contact, Line
from services.identity import aliases, lifecycle
from services.objects.telling import same

Values = dict[str, Any]
T = TypeVar("T")

_TABLE: Final = Deal.__table__
_COLUMNS: Final = tuple(
    column.name for column in _TABLE.columns if column.name != "tenant_id" and column.computed is None
)
_NAMES: Final = ", ".join(_COLUMNS)
_WRITTEN: Final = (
    "title",
    "person_id",
    "organization_id",
    "owner_id",
    "amount_minor",
    "currency",
    "base_minor",
    "recurring_minor",
    "recurring_interval",
    "recurring_term_months",
    "probability",
    "close_date",
    "lost_reason",
    "competitors",
    "attributes",
    "source",
    "external_id",
)
"""What an update may change; where a deal stands is changed by `services.crm.moving` alone."""

_DEFAULTS: Final = {
    "created_at": "coalesce(n.created_at, now())",
    "stage_entered_at": "coalesce(n.created_at, now())",
    "closed_at": "CASE WHEN n.status <> 'open' THEN coalesce(n.closed_at, n.created_at, now()) END",
    "touched_at": "now()",
    "updated_at": "now()",
    "version": "1",
}
"""Of columns that a new row may leave out."""

# A deal made before with the same source key or external id stays as it is.
_INSERT = text(f"""
    INSERT INTO deal (tenant_id, {_NAMES})
    SELECT :tenant AS tenant_id, {", ".join(_DEFAULTS.get(name, f"n.{name}") for name in _COLUMNS)}
    FROM jsonb_populate_recordset(NULL::deal, CAST(:rows AS jsonb)) n
    ORDER BY n.id
    ON CONFLICT DO NOTHING
    RETURNING id
""")  # noqa: S608 - names of our columns
_BEGIN = text("""
    INSERT INTO deal_stage_entry (tenant_id, id, deal_id, number, pipeline_id, stage_id, entered_at, actor)
    SELECT :tenant AS tenant_id, n.entry_id, d.id, 1, d.pipeline_id, d.stage_id, d.stage_entered_at, :actor
    FROM unnest(:ids, :entries) AS n(deal_id, entry_id)
    JOIN deal d ON d.tenant_id = :tenant AND d.id = n.deal_id
""").bindparams(
    bindparam("ids", type_=ARRAY(Uuid)), bindparam("entries", type_=ARRAY(Uuid)), bindparam("actor", type_=Text)
)
_LINES = text("""
    INSERT INTO deal_line (tenant_id, id, deal_id, number, sku, name, quantity, unit_minor, discount_minor, recurring)
    SELECT :tenant AS tenant_id, n.id, n.deal_id, n.number, n.sku, n.name, n.quantity, n.unit_minor, n.discount_minor,
           n.recurring
    FROM jsonb_populate_recordset(NULL::deal_line, CAST(:rows AS jsonb)) n
""")
_CONTACTS = text("""
    INSERT INTO deal_contact (tenant_id, id, deal_id, person_id, role)
    SELECT :tenant AS tenant_id, n.id, n.deal_id, n.person_id, n.role
    FROM jsonb_populate_recordset(NULL::deal_contact, CAST(:rows AS jsonb)) n
    ORDER BY n.deal_id, n.person_id
    ON CONFLICT DO NOTHING
""")
# An array: a statement with as many places as deals would be another for each number of them.
_LOCKED: Final = {
    going: select(_TABLE)
    .where(
        _TABLE.c.tenant_id == bindparam("tenant", type_=Uuid),
        _TABLE.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))),
    )
    .order_by(_TABLE.c.id)
    .with_for_update(key_share=not going)
    for going in (False, True)
}
_DROP_PRIMARY = text("""
    DELETE FROM deal_contact c USING deal d
    WHERE c.tenant_id = :tenant AND c.deal_id = ANY(:ids)
      AND d.tenant_id = :tenant AND d.id = c.deal_id AND d.person_id = c.person_id
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)))
_TOTALS = text("""
    SELECT deal_id, count(*) AS count, sum(quantity * unit_minor - discount_minor)::bigint AS minor,
           coalesce(sum(quantity * unit_minor - discount_minor) FILTER (WHERE recurring), 0)::bigint AS recurring_minor
    FROM deal_line WHERE tenant_id = :tenant AND deal_id = ANY(:ids) GROUP BY deal_id
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)))
_LINKED = text("""
    SELECT person_id, deal_id FROM deal_contact WHERE tenant_id = :tenant AND deal_id = ANY(:ids)
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)))


async def locked(session: TenantSession, deal_ids: Collection[UUID], *, going: bool = False) -> dict[UUID, Values]:
    """Return the rows of these deals, held against changes until the transaction ends, in the order of their ids.

    With `going`, also against being referred to: they are to be deleted.

    Of two who ask for several, one waits for the other: nobody holds a later one already. People come after deals.
    """
    if not deal_ids:
        return {}
    rows = await session.execute(_LOCKED[going], {"tenant": session.tenant_id, "ids": sorted(set(deal_ids))})
    names = tuple(rows.keys())
    number = names.index("id")
    return {row[number]: dict(zip(names, row, strict=True)) for row in rows.all()}


async def insert_all(session: TenantSession, rows: Sequence[Values], *, actor: str) -> set[UUID]:
    """Write new deals, and their first stays; return the ids of those whose keys were free."""
    written = {row.id for row in await session.execute(_INSERT, {"tenant": session.tenant_id, "rows": _as_json(rows)})}
    if written:
        ids = sorted(written)
        values = {"tenant": session.tenant_id, "ids": ids, "entries": new_ids(len(ids)), "actor": actor}
        await session.execute(_BEGIN, values)
    return written


@cache
def _writing(names: tuple[str, ...]) -> TextClause:
    return text(f"""
        UPDATE deal d
        SET {"".join(f"{name} = n.{name}, " for name in names)} version = d.version + 1, updated_at = now(),
            touched_at = now()
        FROM unnest(:id{"".join(f", :{name}" for name in names)}) AS n(id{"".join(f", {name}" for name in names)})
        WHERE d.tenant_id = :tenant AND d.id = n.id
    """).bindparams(  # noqa: S608 - names of our columns
        *(bindparam(name, type_=ARRAY(_TABLE.c[name].type, dimensions=1)) for name in ("id", *names))
    )


async def write_all(session: TenantSession, changes: Sequence[tuple[Values, Values]]) -> None:
    """Write locked deals back, of each what it was and is, but for where it stands; only columns that any changes."""
    names = tuple(
        name
        for name in _WRITTEN
        if any(before[name] is not after[name] and not same(before[name], after[name]) for before, after in changes)
    )
    columns = {name: [after[name] for _, after in changes] for name in ("id", *names)}
    await session.execute(_writing(names), {"tenant": session.tenant_id, **columns})


async def write_lines(session: TenantSession, lines: Sequence[tuple[UUID, Sequence[Line]]]) -> None:
    """Write the products of deals that have none."""
    rows: list[Values] = [
        {
            "deal_id": deal_id,
            "number": number,
            "sku": line.sku,
            "name": line.name,
            "quantity": line.quantity,
            "unit_minor": line.unit_minor,
            "discount_minor": line.discount_minor,
            "recurring": line.recurring,
        }
        for deal_id, of_deal in lines
        for number, line in enumerate(of_deal, 1)
    ]
    if rows:
        await session.execute(_LINES, {"tenant": session.tenant_id, "rows": _with_ids(rows)})


async def replace_lines(session: TenantSession, lines: Sequence[tuple[UUID, Sequence[Line]]]) -> None:
    """Write the products of deals in place of those they have."""
    if lines:
        ids = [deal_id for deal_id, _ in lines]
        await session.execute(
            delete(DealLine).where(DealLine.tenant_id == session.tenant_id, DealLine.deal_id.in_(ids))
        )
        await write_lines(session, lines)


async def drop_primary_contacts(session: TenantSession, deal_ids: Collection[UUID]) -> None:
    """Delete the contacts of deals whose primary person they are."""
    if deal_ids:
        await session.execute(_DROP_PRIMARY, {"tenant": session.tenant_id, "ids": sorted(deal_ids)})


async def write_contacts(session: TenantSession, contacts: Sequence[tuple[UUID, Contact]]) -> None:
    """Write contacts of deals; a person who is one already stays so."""
    rows: list[Values] = [
        {"deal_id": deal_id, "person_id": contact.person_id, "role": contact.role} for deal_id, contact in contacts
    ]
    if rows:
        await session.execute(_CONTACTS, {"tenant": session.tenant_id, "rows": _with_ids(rows)})


async def totals(session: TenantSession, deal_ids: Collection[UUID]) -> dict[UUID, tuple[int, int]]:
    """Return what the products of deals cost, and those that recur; deals without products are left out."""
    rows = await session.execute(_TOTALS, {"tenant": session.tenant_id, "ids": sorted(deal_ids)})
    return {row.deal_id: (row.minor, row.recurring_minor) for row in rows}


async def lines_of(session: TenantSession, deal_ids: Collection[UUID]) -> dict[UUID, list[Line]]:
    """Return the products of deals, in their order; deals without are left out."""
    found: dict[UUID, list[Line]] = {}
    rows = await session.execute(
        select(DealLine.__table__)
        .where(DealLine.tenant_id == session.tenant_id, DealLine.deal_id.in_(sorted(deal_ids)))
        .order_by(DealLine.deal_id, DealLine.number)
    )
    for row in rows:
        found.setdefault(row.deal_id, []).append(
            Line(
                name=row.name,
                quantity=row.quantity,
                unit_minor=row.unit_minor,
                sku=row.sku,
                discount_minor=row.discount_minor,
                recurring=row.recurring,
            )
        )
    return found


async def contacts_of(session: TenantSession, deal_ids: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """Return the people beside the primary one, by deal."""
    found: dict[UUID, list[UUID]] = {}
    for row in await session.execute(_LINKED, {"tenant": session.tenant_id, "ids": sorted(deal_ids)}):
        found.setdefault(row.deal_id, []).append(row.person_id)
    return found


def given(values: Iterable[T | None]) -> set[T]:
    """Return the values but for None."""
    return {value for value in values if value is not None}


async def people(session: TenantSession, person_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Hold these people, the living ones that the ids mean; return whom each id means. Ids of nobody are left out.

    Locked deals and organizations come before, contacts after.
    """
    asked = set(person_ids)
    if not asked:
        return {}
    meant = {person_id: person_id for person_id in asked} | await aliases.among(session, asked)
    there = await lifecycle.lock(session, sorted(set(meant.values())))
    lost = asked - {person_id for person_id, living in meant.items() if living in there}
    if lost:  # merged away while the lock was waited for
        again = await aliases.among(session, lost)
        there |= await lifecycle.lock(session, sorted(set(again.values())))
        meant |= again
    return {person_id: living for person_id, living in meant.items() if living in there}


async def organizations(session: TenantSession, organization_ids: Collection[UUID]) -> set[UUID]:
    """Hold these organizations against deletion; return those that there are."""
    if not organization_ids:
        return set()
    found = await session.scalars(
        select(Organization.id)
        .where(Organization.tenant_id == session.tenant_id, Organization.id.in_(sorted(organization_ids)))
        .order_by(Organization.id)
        .with_for_update(key_share=True, read=True)
    )
    return set(found)


async def owners(session: TenantSession, user_ids: Collection[UUID]) -> set[UUID]:
    """Return those of the ids that are users."""
    if not user_ids:
        return set()
    return set(
        await session.scalars(
            select(UserAccount.id).where(
                UserAccount.tenant_id == session.tenant_id, UserAccount.id.in_(sorted(user_ids))
            )
        )
    )


async def external_ids(session: TenantSession, given: Collection[str]) -> dict[str, UUID]:
    """Return the deal of each external id that is taken."""
    if not given:
        return {}
    rows = await session.execute(
        select(Deal.external_id, Deal.id).where(
            Deal.tenant_id == session.tenant_id, Deal.external_id.in_(sorted(given))
        )
    )
    return {cast("str", row.external_id): row.id for row in rows}


async def source_keys(session: TenantSession, given: Collection[str]) -> dict[str, UUID]:
    """Return the deal of each source key that is taken."""
    if not given:
        return {}
    rows = await session.execute(
        select(Deal.source_key, Deal.id).where(Deal.tenant_id == session.tenant_id, Deal.source_key.in_(sorted(given)))
    )
    return {cast("str", row.source_key): row.id for row in rows}


def _with_ids(rows: Sequence[Values]) -> str:
    return _as_json([row | {"id": new} for row, new in zip(rows, new_ids(len(rows)), strict=True)])


def _as_json(rows: Sequence[Values]) -> str:
    return json.dumps(rows, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no column's value")
