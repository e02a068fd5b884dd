"""Deals as a file: CSV or NDJSON, a page at a time, in a form that an import takes back without changing any."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import select, text

from core import currency
from core.database import TenantSession
from models import Deal, Organization, Person, UserAccount
from services.crm import deal_directory, deal_rows
from services.crm.deal_directory import Filter, Shown
from services.crm.deal_fields import Line
from services.identity.exports import FileFormat, csv_lines
from services.identity.import_upload import Begin

PAGE: Final = 1_000

_COLUMNS: Final = (
    *("id", "external_id", "title", "pipeline", "stage", "status", "amount", "currency", "base_amount"),
    *("recurring.amount", "recurring.interval", "recurring.term_months", "probability", "close_date", "lost_reason"),
    *("owner", "person.id", "person.external_id", "person.email"),
    *("organization.id", "organization.external_id", "organization.domain", "organization.name"),
    *("source", "competitors:json", "products:json", "created_at", "stage_entered_at", "closed_at", "updated_at"),
)
# An attribute goes as plain text where all its values are texts that come back as they are, else as JSON.
_ATTRIBUTES: Final = text(r"""
    SELECT a.key, bool_and(jsonb_typeof(a.value) = 'string' AND a.value #>> '{}' ~ '^\S(.*\S)?$') AS plain
    FROM deal d, jsonb_each(d.attributes) AS a
    WHERE d.tenant_id = :tenant GROUP BY a.key ORDER BY a.key
""")

Header = Sequence[tuple[str, bool]]
"""The attributes with a column, each with whether its cells hold JSON."""


@dataclass(frozen=True, slots=True)
class _Page:
    """Deals, and what others are called that they name."""

    deals: Sequence[Shown]
    lines: Mapping[UUID, Sequence[Line]]
    owners: Mapping[UUID, str]
    people: Mapping[UUID, Mapping[str, str | None]]
    organizations: Mapping[UUID, Mapping[str, str | None]]


async def header(session: TenantSession) -> Header:
    """Return which attributes the tenant's deals have."""
    rows = await session.execute(_ATTRIBUTES, {"tenant": session.tenant_id})
    return [(row.key, not row.plain) for row in rows]


async def texts(begin: Begin, wanted: Filter, file_format: FileFormat) -> AsyncGenerator[tuple[str, int]]:
    """Yield the file a part at a time, each with how many deals it holds; a transaction a part, so none stays open."""
    columns: Header | None = None
    if file_format == "csv":
        async with begin() as session:
            columns = await header(session)
        names = [f"attributes.{name}:json" if as_json else f"attributes.{name}" for name, as_json in columns]
        yield csv_lines([[*_COLUMNS, *names]]), 0
    before: UUID | None = None
    while True:
        async with begin() as session:
            page = await _page(session, wanted, before)
        items = [_item(shown, page) for shown in page.deals]
        if columns is None:
            yield "".join(f"{_json(item)}\n" for item in items), len(items)
        else:
            yield csv_lines(_row(item, columns) for item in items), len(items)
        if len(items) < PAGE:
            return
        before = page.deals[-1].deal.id


async def _page(session: TenantSession, wanted: Filter, before: UUID | None) -> _Page:
    """Return the next `PAGE` deals, newest first; fewer at the end."""
    shown = await deal_directory.page(session, wanted, limit=PAGE, before=before)
    deals = [one.deal for one in shown]
    return _Page(
        deals=shown,
        lines=await deal_rows.lines_of(session, [deal.id for deal in deals]),
        owners=await _owners(session, deal_rows.given(deal.owner_id for deal in deals)),
        people=await _people(session, deal_rows.given(deal.person_id for deal in deals)),
        organizations=await _organizations(session, deal_rows.given(deal.organization_id for deal in deals)),
    )


async def _owners(session: TenantSession, ids: set[UUID]) -> dict[UUID, str]:
    rows = await session.execute(
        select(UserAccount.id, UserAccount.email).where(
            UserAccount.tenant_id == session.tenant_id, UserAccount.id.in_(sorted(ids))
        )
    )
    return {row.id: row.email for row in rows}


async def _people(session: TenantSession, ids: set[UUID]) -> dict[UUID, dict[str, str | None]]:
    rows = await session.execute(
        select(Person.id, Person.external_id, Person.email).where(
            Person.tenant_id == session.tenant_id, Person.id.in_(sorted(ids))
        )
    )
    return {row.id: {"id": str(row.id), "external_id": row.external_id, "email": row.email} for row in rows}


async def _organizations(session: TenantSession, ids: set[UUID]) -> dict[UUID, dict[str, str | None]]:
    rows = await session.execute(
        select(Organization.id, Organization.external_id, Organization.domain, Organization.name).where(
            Organization.tenant_id == session.tenant_id, Organization.id.in_(sorted(ids))
        )
    )
    return {
        row.id: {"id": str(row.id), "external_id": row.external_id, "domain": row.domain, "name": row.name}
        for row in rows
    }


def _item(shown: Shown, page: _Page) -> dict[str, Any]:
    """Return the deal as an object of NDJSON."""
    deal = shown.deal
    return {
        "id": str(deal.id),
        "external_id": deal.external_id,
        "title": deal.title,
        "pipeline": shown.pipeline,
        "stage": shown.stage,
        "status": deal.status,
        "amount": _amount(deal.amount_minor, deal.currency),
        "currency": deal.currency,
        "base_amount": _amount(deal.base_minor, shown.base_currency),
        "recurring": _recurring(deal),
        "probability": deal.probability,
        "close_date": None if deal.close_date is None else deal.close_date.isoformat(),
        "lost_reason": deal.lost_reason,
        "owner": None if deal.owner_id is None else page.owners.get(deal.owner_id),
        "person": None if deal.person_id is None else page.people.get(deal.person_id),
        "organization": None if deal.organization_id is None else page.organizations.get(deal.organization_id),
        "source": deal.source,
        "competitors": deal.competitors,
        "products": [_product(line, deal.currency) for line in page.lines.get(deal.id, ())],
        "attributes": deal.attributes,
        "created_at": deal.created_at.isoformat(),
        "stage_entered_at": deal.stage_entered_at.isoformat(),
        "closed_at": None if deal.closed_at is None else deal.closed_at.isoformat(),
        "updated_at": deal.updated_at.isoformat(),
    }


def _recurring(deal: Deal) -> dict[str, Any] | None:
    if deal.recurring_interval is None:
        return None
    return {
        "amount": _amount(deal.recurring_minor or 0, deal.currency),
        "interval": deal.recurring_interval,
        "term_months": deal.recurring_term_months,
    }


def _product(line: Line, code: str) -> dict[str, Any]:
    return {
        "name": line.name,
        "sku": line.sku,
        "quantity": line.quantity,
        "unit_price": _amount(line.unit_minor, code),
        "discount": _amount(line.discount_minor, code),
        "recurring": line.recurring,
    }


def _amount(minor: int, code: str) -> str:
    return str(currency.from_minor(minor, code))


def _row(item: Mapping[str, Any], columns: Header) -> list[str]:
    attributes: Mapping[str, Any] = item["attributes"]
    return [
        *(_cell(item, name) for name in _COLUMNS),
        *(
            "" if name not in attributes else _json(attributes[name]) if as_json else str(attributes[name])
            for name, as_json in columns
        ),
    ]


def _cell(item: Mapping[str, Any], column: str) -> str:
    name, _, inner = column.partition(".")
    plain = name.removesuffix(":json")
    value: object = item[plain]
    if inner:
        value = None if value is None else cast("Mapping[str, object]", value)[inner]
    if plain != name:
        return _json(value) if value else ""
    return "" if value is None else str(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
