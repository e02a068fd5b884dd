"""What is computed of a person and not stored with it: for conditions in SQL, as for the profile."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    FromClause,
    Numeric,
    Select,
    Table,
    Text,
    Uuid,
    column,
    func,
    select,
    table,
    type_coerce,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.sql.elements import ColumnElement

from journeys.attributes import Defined
from models import Tenant
from services.shared.conditions_fields import Value, instant_value, number_value
from services.shared.related import major

TOTALS: Final = table(
    "commerce_customer_totals",
    column("tenant_id", Uuid),
    column("person_id", Uuid),
    column("currency", Text),
    column("order_count", BigInteger),
    column("spent_minor", BigInteger),
    column("last_order_at", DateTime(timezone=True)),
)
_TENANT: Table = Tenant.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here

COMPUTED: Final[Mapping[str, Defined]] = MappingProxyType(
    {
        "order_count": Defined("number"),
        "lifetime_value": Defined("number"),
        "average_order": Defined("number"),
        "last_order_at": Defined("datetime"),
    }
)
"""Orders not wholly refunded; what was spent net of refunds, and on average, in the tenant's base currency and of its
orders alone; when the last order was placed."""


def value_of(name: str, person: FromClause, tenant_id: UUID) -> Value | None:
    """Return what is computed under this name of the row `person`; None where nothing is."""
    build = _BUILDERS.get(name)
    return None if build is None else build(person, tenant_id)


def _of(person: FromClause, tenant_id: UUID, *, base: bool, what: ColumnElement[Any]) -> Select[Any]:
    found = (
        select(what)
        .select_from(TOTALS)
        .where(TOTALS.c.tenant_id == tenant_id, TOTALS.c.person_id == person.c.id)
        .correlate_except(TOTALS)
    )
    if base:
        of_tenant = _TENANT.alias()
        code = select(of_tenant.c.base_currency).where(of_tenant.c.id == tenant_id).scalar_subquery()
        found = found.where(TOTALS.c.currency == code)
    return found


def _order_count(person: FromClause, tenant_id: UUID) -> Value:
    total = _of(person, tenant_id, base=False, what=func.sum(TOTALS.c.order_count)).scalar_subquery()
    return number_value(func.coalesce(sql_cast(total, Numeric), 0, type_=Numeric), nullable=False)


def _last_order_at(person: FromClause, tenant_id: UUID) -> Value:
    last = _of(person, tenant_id, base=False, what=func.max(TOTALS.c.last_order_at)).scalar_subquery()
    return instant_value(type_coerce(last, DateTime(timezone=True)))


def _lifetime_value(person: FromClause, tenant_id: UUID) -> Value:
    spent = _of(person, tenant_id, base=True, what=major(TOTALS.c.spent_minor, TOTALS.c.currency)).scalar_subquery()
    return number_value(func.coalesce(spent, 0, type_=Numeric), nullable=False)


def _average_order(person: FromClause, tenant_id: UUID) -> Value:
    each = major(TOTALS.c.spent_minor, TOTALS.c.currency) / func.nullif(TOTALS.c.order_count, 0)
    return number_value(_of(person, tenant_id, base=True, what=each).scalar_subquery())


_BUILDERS: Final[Mapping[str, Callable[[FromClause, UUID], Value]]] = MappingProxyType(
    {
        "order_count": _order_count,
        "lifetime_value": _lifetime_value,
        "average_order": _average_order,
        "last_order_at": _last_order_at,
    }
)
