"""Conditions as SQL: what `journeys.evaluate` decides for one, decided by the database for a set.

Both agree on every sentence there; `tests/journeys/condition_cases.py` is the table that both are tested against.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    DateTime,
    FromClause,
    Integer,
    String,
    Table,
    Text,
    Uuid,
    and_,
    case,
    column,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
    table,
    true,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Select

from journeys.conditions import (
    AllOf,
    AnyOf,
    Condition,
    EventCondition,
    FieldCondition,
    FieldPath,
    Not,
    RelatedCondition,
    SegmentCondition,
    walk,
)
from models import Event, Organization, Tenant
from services.shared import computed
from services.shared.conditions_fields import (
    Bool,
    Clock,
    Value,
    boolean_value,
    compare,
    instant_value,
    json_value,
    number_value,
    text_value,
)

EVENT: Table = Event.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
ORGANIZATION: Table = Organization.__table__  # pyright: ignore[reportAssignmentType]
TENANT: Table = Tenant.__table__  # pyright: ignore[reportAssignmentType]
_LINKS = table(
    "organization_current_people",
    column("tenant_id", Uuid),
    column("person_id", Uuid),
    column("organization_id", Uuid),
    column("is_primary", Boolean),
)
_ZONES = table("pg_timezone_names", column("name", Text), schema="pg_catalog")


class UnsupportedCondition(ValueError):  # noqa: N818 - named for what it tells, like the language's other errors
    """A condition about something that is not known where it is asked; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the fields of a condition are in the statement that it becomes part of."""

    tenant_id: UUID
    person: FromClause
    """An alias of the table of persons; the statement holds it to the tenant."""
    subject_id: ColumnElement[Any]
    """Whose events are counted: the person's id."""
    entry: ColumnElement[Any] | None = None
    """The properties of the entry event, as JSONB."""
    event: FromClause | None = None
    """The trigger event: the columns type, occurred_at, and properties as JSONB."""
    now: ColumnElement[datetime] = field(default_factory=lambda: func.now(type_=DateTime(timezone=True)))

    @property
    def clock(self) -> Clock:
        """The person's time; what the server takes for no zone is UTC."""
        tenant = TENANT.alias()
        of_tenant = select(tenant.c.time_zone).where(tenant.c.id == self.tenant_id).scalar_subquery()
        zone = func.coalesce(self.person.c.time_zone, of_tenant, type_=Text)
        return Clock(self.now, case((zone.in_(select(_ZONES.c.name)), zone), else_="UTC"))


def compile_condition(condition: Condition, scope: Scope) -> Bool:
    """Return the expression that is true where the condition holds; never NULL, whatever is stored, and no error.

    Raises:
        UnsupportedCondition: it asks for what the scope does not have.
    """
    match condition:
        case AllOf():
            return and_(*_each(condition.conditions, scope))
        case AnyOf():
            return or_(*_each(condition.conditions, scope))
        case Not():
            return not_(compile_condition(condition.condition, scope))
        case FieldCondition() if condition.field.root == "organization":
            return _of_organization(condition, scope)
        case FieldCondition():
            return compare(_value(condition.field, scope), condition, scope.clock)
        case EventCondition():
            return _counted(condition, scope)
        case SegmentCondition():
            raise UnsupportedCondition(f"the segment {condition.in_segment} is not available")
        case RelatedCondition():
            raise UnsupportedCondition(f"what is related as {condition.related} is not available")


def _each(conditions: tuple[Condition, ...], scope: Scope) -> list[Bool]:
    # Their order does not change the answer, and Postgres stops at the first that decides: count events last.
    def counts(condition: Condition) -> bool:
        return any(isinstance(part, EventCondition) for part in walk(condition))

    return [compile_condition(condition, scope) for condition in sorted(conditions, key=counts)]


def _value(path: FieldPath, scope: Scope) -> Value:
    found = None
    if path.root == "person":
        found = _of_row(path.path, scope.person) or _computed(path.path, scope)
    elif path.root == "event" and scope.event is not None:
        found = _of_event(path.path, scope.event)
    elif path.root == "entry" and scope.entry is not None:
        found = json_value(scope.entry, path.path)
    if found is None:
        raise UnsupportedCondition(f"the field {path} is not available")
    return found


def _computed(steps: tuple[str, ...], scope: Scope) -> Value | None:
    return computed.value_of(steps[0], scope.person, scope.tenant_id) if len(steps) == 1 else None


def _of_event(steps: tuple[str, ...], event: FromClause) -> Value | None:
    match steps:
        case ("type",):
            return text_value(event.c.type)
        case ("occurred_at",):
            return instant_value(event.c.occurred_at)
        case ("properties", *rest) if rest:
            return json_value(event.c.properties, rest)
        case _:
            return None


def _of_row(steps: tuple[str, ...], row: FromClause) -> Value | None:
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


def _of_organization(condition: FieldCondition, scope: Scope) -> Bool:
    """Return the comparison with a field of the person's primary organization; without one, all are missing."""
    link, organization = _LINKS.alias(), ORGANIZATION.alias()
    value = _of_row(condition.field.path, organization)
    if value is None:
        raise UnsupportedCondition(f"the field {condition.field} is not available")
    absent = condition.op == "missing"
    there = (
        select(literal_column("1", Integer))
        .select_from(link)
        .join(organization, organization.c.id == link.c.organization_id)
        .where(
            link.c.tenant_id == scope.tenant_id,
            link.c.person_id == scope.subject_id,
            link.c.is_primary,
            organization.c.tenant_id == scope.tenant_id,
            value.present if absent else compare(value, condition, scope.clock),
        )
        .correlate_except(link, organization)
    )
    return not_(exists(there)) if absent else exists(there)


def _counted(condition: EventCondition, scope: Scope) -> Bool:
    event = EVENT.alias()
    counted = [event.c.tenant_id == scope.tenant_id, event.c.person_id == scope.subject_id]
    if condition.within is not None:
        counted.append(event.c.occurred_at >= scope.clock.ago(condition.within))
    counted.append(event.c.type == condition.event)
    if condition.where is not None:
        counted.append(compile_condition(condition.where, replace(scope, event=event)))
    found = select(literal_column("1", Integer)).select_from(event).where(*counted).correlate_except(event)
    op, times = condition.count.op, condition.count.value
    match op:
        case ">=":
            return _at_least(found, times)
        case ">":
            return _at_least(found, times + 1)
        case "<":
            return not_(_at_least(found, times))
        case "<=":
            return not_(_at_least(found, times + 1))
        case "=":
            return _exactly(found, times)
        case "!=":
            return not_(_exactly(found, times))


def _at_least(found: Select[Any], times: int) -> Bool:
    match times:
        case 0:
            return true()
        case 1:
            return exists(found)
        case _:
            return _number(found, times) == times


def _exactly(found: Select[Any], times: int) -> Bool:
    return not_(exists(found)) if times == 0 else _number(found, times + 1) == times


def _number(found: Select[Any], limit: int) -> ColumnElement[int]:
    """Return how many rows there are, counting no further than `limit`."""
    return select(func.count()).select_from(found.limit(limit).subquery()).scalar_subquery()
