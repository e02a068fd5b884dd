"""Things that belong to a person, as conditions speak of them: orders, deals, organizations, records of objects.

Each is a set of rows with columns by the names of the language. Adding a kind is an entry in `ROOTS`, and its rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    DateTime,
    FromClause,
    Integer,
    Numeric,
    Select,
    String,
    Subquery,
    Table,
    Text,
    Uuid,
    case,
    column,
    func,
    literal,
    select,
    table,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from core import currency
from journeys.attributes import Defined
from models import Association, ObjectDefinition, Organization, Record
from models.crm import DEAL_STATUSES
from services.shared.conditions_fields import (
    Bool,
    Value,
    boolean_value,
    instant_value,
    json_value,
    number_value,
    text_value,
)

ROOTS: Final = frozenset({"deal", "organization", "order"})
"""What a person may have, beside `record:KEY` for each object."""

ORDER_FIELDS: Final[Mapping[str, Defined]] = MappingProxyType(
    {
        "id": Defined("text"),
        "currency": Defined("text"),
        "total": Defined("number"),
        "refunded": Defined("number"),
        "placed_at": Defined("datetime"),
        "counts": Defined("boolean"),
    }
)
"""Of an order: as its events called it; what was paid and given back, in the currency's own unit; whether anything
of it is left, so that it makes a customer."""

DEAL_FIELDS: Final[Mapping[str, Defined]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("id", "title", "pipeline", "stage", "currency", "owner_id", "lost_reason", "source"), Defined("text")
        ),
        "status": Defined("choice", choices=DEAL_STATUSES),
        **dict.fromkeys(("amount", "base_amount", "probability"), Defined("number")),
        "close_date": Defined("date"),
        **dict.fromkeys(("closed_at", "stage_entered_at", "created_at", "updated_at"), Defined("datetime")),
        "rotting": Defined("boolean"),
    }
)
"""Of a deal beside its attributes: `pipeline` and `stage` by their keys; `amount` in the currency's own unit,
`base_amount` in the tenant's base currency's; `probability` in percent, the stage's where it has none of its own."""

RECORD_FIELDS: Final[Mapping[str, Defined]] = MappingProxyType(
    {"id": Defined("text"), "created_at": Defined("datetime"), "updated_at": Defined("datetime")}
)
"""Of a record beside its properties, which cannot have these names."""

_ORGANIZATION: Table = Organization.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
_ASSOCIATION: Table = Association.__table__  # pyright: ignore[reportAssignmentType]
_RECORD: Table = Record.__table__  # pyright: ignore[reportAssignmentType]
_OBJECT: Table = ObjectDefinition.__table__  # pyright: ignore[reportAssignmentType]
_LINKS = table(
    "organization_current_people",
    column("tenant_id", Uuid),
    column("person_id", Uuid),
    column("organization_id", Uuid),
    column("is_primary", Boolean),
)
_ORDERS = table(
    "commerce_order_facts",
    column("tenant_id", Uuid),
    column("person_id", Uuid),
    column("order_key", Text),
    column("currency", String),
    column("total_minor", BigInteger),
    column("refunded_minor", BigInteger),
    column("placed_at", DateTime(timezone=True)),
    column("counts", Boolean),
)
DEALS: Final = table(
    "crm_deal_facts",
    column("tenant_id", Uuid),
    column("id", Uuid),
    column("person_id", Uuid),
    column("organization_id", Uuid),
    column("owner_id", Uuid),
    column("title", Text),
    column("pipeline_key", Text),
    column("stage_key", Text),
    column("status", Text),
    column("currency", String),
    column("amount_minor", BigInteger),
    column("base_minor", BigInteger),
    column("base_currency", String),
    column("probability", Integer),
    column("close_date", Date),
    column("closed_at", DateTime(timezone=True)),
    column("lost_reason", Text),
    column("attributes", JSONB),
    column("source", Text),
    column("stage_entered_at", DateTime(timezone=True)),
    column("rotting", Boolean),
    column("rots_at", DateTime(timezone=True)),
    column("created_at", DateTime(timezone=True)),
    column("updated_at", DateTime(timezone=True)),
)
"""What conditions read of deals; an alias of it is the row of one."""
_USUAL_PLACES: Final = 2
"""Of most currencies' amounts."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Things of one root that belong to one person."""

    row: FromClause
    """Whose columns the fields are."""
    source: FromClause
    """What to select from: the row, and what links it to the person."""
    where: Sequence[Bool]
    """Which of them are the person's."""
    tables: Sequence[FromClause]
    """All of `source`: what a subquery must not take for its surroundings'."""


def rows(root: str, tenant_id: UUID, person_id: ColumnElement[Any], *, primary: bool = False) -> Rows | None:
    """Return the things of this root that are the person's; None where there is no such root.

    With `primary`, of organizations the primary one alone.
    """
    if root == "order":
        order = _ORDERS.alias()
        return Rows(order, order, [order.c.tenant_id == tenant_id, order.c.person_id == person_id], [order])
    if root == "deal":
        # Those the person is the primary one of: events of a deal name that person.
        deal = DEALS.alias()
        return Rows(deal, deal, [deal.c.tenant_id == tenant_id, deal.c.person_id == person_id], [deal])
    if root == "organization":
        return _organizations(tenant_id, person_id, primary=primary)
    kind, _, key = root.partition(":")
    return _records(key, tenant_id, person_id) if kind == "record" and key else None


def _organizations(tenant_id: UUID, person_id: ColumnElement[Any], *, primary: bool) -> Rows:
    link, organization = _LINKS.alias(), _ORGANIZATION.alias()
    where = [
        link.c.tenant_id == tenant_id,
        link.c.person_id == person_id,
        organization.c.tenant_id == tenant_id,
    ]
    if primary:
        where.append(link.c.is_primary)
    joined = link.join(organization, organization.c.id == link.c.organization_id)
    return Rows(organization, joined, where, [link, organization])


def _records(key: str, tenant_id: UUID, person_id: ColumnElement[Any]) -> Rows:
    linked = person_records(tenant_id)
    record, definition = _RECORD.alias(), _OBJECT.alias()
    object_id = (
        select(definition.c.id)
        .where(definition.c.tenant_id == tenant_id, definition.c.key == key)
        .correlate(None)
        .scalar_subquery()
    )
    where = [linked.c.person_id == person_id, record.c.tenant_id == tenant_id, record.c.object_id == object_id]
    return Rows(record, linked.join(record, record.c.id == linked.c.record_id), where, [linked, record])


def person_records(tenant_id: UUID) -> Subquery:
    """Return the pairs `person_id`, `record_id` that are associated, whichever of them the association begins with."""
    ways: list[Select[Any, Any]] = []
    for person_side, record_side in (("from", "to"), ("to", "from")):
        association = _ASSOCIATION.alias()
        person_id, record_id = association.c[f"{person_side}_person_id"], association.c[f"{record_side}_record_id"]
        ways.append(
            select(person_id.label("person_id"), record_id.label("record_id"))
            .where(association.c.tenant_id == tenant_id, person_id.is_not(None), record_id.is_not(None))
            .correlate(None)
        )
    return union_all(*ways).subquery()


def value_of(root: str, steps: Sequence[str], row: FromClause) -> Value | None:
    """Return what a field of a thing holds; None where there is no such field."""
    if root == "order":
        return _built(_ORDER_VALUES, steps, row)
    if root == "deal":
        if steps[0] == "attributes" and len(steps) > 1:
            return json_value(row.c.attributes, steps[1:])
        return _built(_DEAL_VALUES, steps, row)
    if root.startswith("record:"):
        meta = len(steps) == 1 and steps[0] in RECORD_FIELDS
        return column_value(steps, row) if meta else json_value(row.c.properties, steps)
    return column_value(steps, row)


def _built(values: Mapping[str, Callable[[FromClause], Value]], steps: Sequence[str], row: FromClause) -> Value | None:
    build = values.get(".".join(steps))
    return None if build is None else build(row)


def major(minor: ColumnElement[Any], code: ColumnElement[Any]) -> ColumnElement[Decimal]:
    """Return an amount in the currency's own unit."""
    by_code = {code: 10**places for code, places in currency.EXPONENTS.items() if places != _USUAL_PLACES}
    return sql_cast(minor, Numeric) / case(by_code, value=code, else_=literal(10**_USUAL_PLACES))


def column_value(steps: Sequence[str], row: FromClause) -> Value | None:
    """Return what a field holds that is a column of its name, or a path into one of JSONB; None where there is none."""
    name, *rest = steps
    held = row.c.get(name)
    if held is None or bool(rest) != isinstance(held.type, JSONB):
        return None
    nullable = bool(getattr(held, "nullable", True))
    if isinstance(held.type, JSONB):
        return json_value(held, rest)
    if isinstance(held.type, Boolean):
        return boolean_value(held)
    return _of_column(held, nullable=nullable)


def _of_column(held: ColumnElement[Any], *, nullable: bool) -> Value | None:
    match held.type:
        case Integer():
            return number_value(held, nullable=nullable)
        case DateTime():
            return instant_value(held, nullable=nullable)
        case String() | Uuid():
            # Ids compare as text.
            return text_value(held if isinstance(held.type, Text) else sql_cast(held, Text), nullable=nullable)
        case _:
            return None


_ORDER_VALUES: Final[Mapping[str, Callable[[FromClause], Value]]] = MappingProxyType(
    {
        "id": lambda order: text_value(order.c.order_key, nullable=False),
        "currency": lambda order: text_value(sql_cast(order.c.currency, Text), nullable=False),
        "total": lambda order: number_value(major(order.c.total_minor, order.c.currency), nullable=False),
        "refunded": lambda order: number_value(major(order.c.refunded_minor, order.c.currency), nullable=False),
        "placed_at": lambda order: instant_value(order.c.placed_at, nullable=False),
        "counts": lambda order: boolean_value(order.c.counts),
    }
)
_DEAL_VALUES: Final[Mapping[str, Callable[[FromClause], Value]]] = MappingProxyType(
    {
        "id": lambda deal: text_value(sql_cast(deal.c.id, Text), nullable=False),
        "title": lambda deal: text_value(deal.c.title, nullable=False),
        "pipeline": lambda deal: text_value(deal.c.pipeline_key, nullable=False),
        "stage": lambda deal: text_value(deal.c.stage_key, nullable=False),
        "status": lambda deal: text_value(deal.c.status, nullable=False),
        "currency": lambda deal: text_value(sql_cast(deal.c.currency, Text), nullable=False),
        "amount": lambda deal: number_value(major(deal.c.amount_minor, deal.c.currency), nullable=False),
        "base_amount": lambda deal: number_value(major(deal.c.base_minor, deal.c.base_currency), nullable=False),
        "probability": lambda deal: number_value(deal.c.probability, nullable=False),
        # As text, as a day is no instant: it is the day it says in every zone.
        "close_date": lambda deal: text_value(func.to_char(deal.c.close_date, "YYYY-MM-DD", type_=Text)),
        "closed_at": lambda deal: instant_value(deal.c.closed_at),
        "stage_entered_at": lambda deal: instant_value(deal.c.stage_entered_at, nullable=False),
        "created_at": lambda deal: instant_value(deal.c.created_at, nullable=False),
        "updated_at": lambda deal: instant_value(deal.c.updated_at, nullable=False),
        "owner_id": lambda deal: text_value(sql_cast(deal.c.owner_id, Text)),
        "lost_reason": lambda deal: text_value(deal.c.lost_reason),
        "source": lambda deal: text_value(deal.c.source),
        "rotting": lambda deal: boolean_value(deal.c.rotting),
    }
)
