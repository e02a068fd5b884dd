"""Conditions as SQL: what `journeys.evaluate` decides for one, decided by the database for a set.

Both agree on every sentence there; `tests/journeys/condition_cases.py` is the table that both are tested against.

Events are counted person by person, off an index; or, with `Scope.counts`, once for the whole set, in subqueries that
the statement joins: for a whole population that is several times faster.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    DateTime,
    FromClause,
    Integer,
    Table,
    Text,
    Uuid,
    and_,
    case,
    column,
    exists,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    table,
    true,
)
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
from models import Event, Tenant
from services.shared import computed, related
from services.shared.conditions_counts import Counts, holds
from services.shared.conditions_fields import (
    Bool,
    Clock,
    Value,
    compare,
    instant_value,
    json_value,
    text_value,
)

EVENT: Table = Event.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
TENANT: Table = Tenant.__table__  # pyright: ignore[reportAssignmentType]
_ZONES = table("pg_timezone_names", column("name", Text), schema="pg_catalog")
_MEMBERSHIPS = table(
    "marketing_segment_memberships",
    column("tenant_id", Uuid),
    column("person_id", Uuid),
    column("segment_key", Text),
)
_ONE = literal_column("1", Integer)


class UnsupportedCondition(ValueError):  # noqa: N818 - named for what it tells, like the language's other errors
    """A condition about something that is not known where it is asked; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the fields of a condition are in the statement that it becomes part of."""

    tenant_id: UUID
    person: FromClause | None = None
    """An alias of the table of persons; the statement holds it to the tenant. None where no person is spoken of."""
    person_may_lack: bool = False
    """Whether `person` is joined outwardly: who is not there misses every field."""
    subject_id: ColumnElement[Any] | None = None
    """Whose events are counted: the person's id."""
    entry: ColumnElement[Any] | None = None
    """The properties of the entry event, as JSONB."""
    event: FromClause | None = None
    """The trigger event: the columns type, occurred_at, and properties as JSONB."""
    rows: Mapping[str, FromClause] = field(default_factory=dict[str, FromClause])
    """Things that the condition speaks of one by one, by their root (`order`, `record:KEY`): see `shared.related`."""
    counts: Counts | None = None
    """Where events are counted for the whole set; the statement must join what is collected there."""
    now: ColumnElement[datetime] = field(default_factory=lambda: func.now(type_=DateTime(timezone=True)))
    events: Callable[[], FromClause] = EVENT.alias
    """Makes what events are counted in: the table, or what stands for it, under a new name each time."""

    @property
    def clock(self) -> Clock:
        """The person's time, the tenant's where nobody is spoken of; what the server takes for no zone is UTC."""
        tenant = TENANT.alias()
        of_tenant = select(tenant.c.time_zone).where(tenant.c.id == self.tenant_id).scalar_subquery()
        zone = of_tenant if self.person is None else func.coalesce(self.person.c.time_zone, of_tenant, type_=Text)
        return Clock(self.now, case((zone.in_(select(_ZONES.c.name)), zone), else_="UTC"))

    def whose(self) -> ColumnElement[Any]:
        """Return the id of the person spoken of.

        Raises:
            UnsupportedCondition: there is none.
        """
        if self.subject_id is None:
            raise UnsupportedCondition("no person is known here")
        return self.subject_id


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
        case FieldCondition():
            return _compared(condition, scope)
        case EventCondition():
            return _counted(condition, scope)
        case SegmentCondition() | RelatedCondition():
            return _belonging(condition, scope)


def _each(conditions: tuple[Condition, ...], scope: Scope) -> list[Bool]:
    # Their order does not change the answer, and Postgres stops at the first that decides: count events last.
    def counts(condition: Condition) -> bool:
        return any(isinstance(part, EventCondition) for part in walk(condition))

    return [compile_condition(condition, scope) for condition in sorted(conditions, key=counts)]


def _compared(condition: FieldCondition, scope: Scope) -> Bool:
    root = root_of(condition.field)
    if root in scope.rows:
        return compare(field_value(condition.field, scope), condition, scope.clock)
    if root not in related.ROOTS and condition.field.root != "record":
        return compare(field_value(condition.field, scope), condition, scope.clock)
    # Of several things one is enough; without any, or any that has it, the field is missing.
    missing = condition.op == "missing"
    asked = condition.model_copy(update={"op": "exists"}) if missing else condition
    found = _related(root, asked, scope, primary=True)
    return not_(found) if missing else found


def root_of(path: FieldPath) -> str:
    """Return the root as `related` writes it: `order`, `record:KEY`."""
    return f"record:{path.record_key}" if path.record_key else path.root


def field_value(path: FieldPath, scope: Scope) -> Value:
    """Return what a field holds.

    Raises:
        UnsupportedCondition: it is not known in this scope.
    """
    found = None
    row = scope.rows.get(root_of(path))
    if row is not None:
        found = related.value_of(root_of(path), path.path, row)
    elif path.root == "person" and scope.person is not None:
        found = _of_person(path.path, scope.person, scope)
    elif path.root == "event" and scope.event is not None:
        found = _of_event(path.path, scope.event)
    elif path.root == "entry" and scope.entry is not None:
        found = json_value(scope.entry, path.path)
    if found is None:
        raise UnsupportedCondition(f"the field {path} is not available")
    return found


def _of_person(steps: tuple[str, ...], person: FromClause, scope: Scope) -> Value | None:
    found = related.column_value(steps, person) or _computed(steps, person, scope.tenant_id)
    if found is None or not scope.person_may_lack:
        return found
    return replace(found, present=and_(found.present, person.c.id.is_not(None)))


def _computed(steps: tuple[str, ...], person: FromClause, tenant_id: UUID) -> Value | None:
    return computed.value_of(steps[0], person, tenant_id) if len(steps) == 1 else None


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


def _belonging(condition: SegmentCondition | RelatedCondition, scope: Scope) -> Bool:
    if isinstance(condition, RelatedCondition):
        return _related(condition.related, condition.where, scope)
    member = _MEMBERSHIPS.alias()
    found = select(_ONE).where(
        member.c.tenant_id == scope.tenant_id,
        member.c.person_id == scope.whose(),
        member.c.segment_key == condition.in_segment,
    )
    return exists(found.correlate_except(member))


def _related(root: str, where: Condition | None, scope: Scope, *, primary: bool = False) -> Bool:
    """Return whether somebody has such a thing; of organizations with `primary` the primary one alone counts."""
    found = related_rows(root, scope, primary=primary)
    there = select(_ONE).select_from(found.source).where(*found.where)
    if where is not None:
        there = there.where(compile_condition(where, among(scope, root, found.row)))
    return exists(there.correlate_except(*found.tables))


def related_rows(root: str, scope: Scope, *, primary: bool = False) -> related.Rows:
    """Return the person's things of a root.

    Raises:
        UnsupportedCondition: there is no such root.
    """
    found = related.rows(root, scope.tenant_id, scope.whose(), primary=primary)
    if found is None:
        raise UnsupportedCondition(f"what is related as {root} is not available")
    return found


def among(scope: Scope, root: str, row: FromClause) -> Scope:
    """Return the scope of a condition about one of several things."""
    return replace(scope, rows={**scope.rows, root: row}, counts=None)


def _counted(condition: EventCondition, scope: Scope) -> Bool:
    if scope.counts is not None and _stands_alone(condition):
        return _joined(condition, scope, scope.counts)
    event, counted = events_counted(condition, scope)
    return _one_by_one(condition, select(_ONE).select_from(event).where(*counted).correlate_except(event))


def _one_by_one(condition: EventCondition, found: Select[Any]) -> Bool:
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


def events_counted(condition: EventCondition, scope: Scope) -> tuple[FromClause, list[Bool]]:
    """Return the person's events that a condition counts: the table, and which of its rows."""
    event = scope.events()
    return event, [event.c.person_id == scope.whose(), *_which(condition, event, scope)]


def _which(condition: EventCondition, event: FromClause, scope: Scope) -> list[Bool]:
    counted: list[Bool] = [event.c.tenant_id == scope.tenant_id]
    if condition.within is not None:
        counted.append(event.c.occurred_at >= scope.clock.ago(condition.within))
    counted.append(event.c.type == condition.event)
    if condition.where is not None:
        counted.append(compile_condition(condition.where, replace(scope, event=event, counts=None)))
    return counted


def _stands_alone(condition: EventCondition) -> bool:
    """Whether which events count can be said without speaking of the person."""
    if condition.where is None:
        return True
    return all(
        isinstance(part, AllOf | AnyOf | Not)
        or (isinstance(part, FieldCondition) and part.field.root == "event" and part.op != "anniversary_in")
        for part in walk(condition.where)
    )


def _joined(condition: EventCondition, scope: Scope, counts: Counts) -> Bool:
    """Return the same of a count that is made for everybody at once and joined."""
    op, times = condition.count.op, condition.count.value
    if (op, times) == (">=", 0):
        return true()
    event = scope.events()
    alone = replace(scope, person=None, subject_id=None, rows={}, counts=None)
    counted = (
        select(event.c.person_id, func.count().label("times"))
        .where(*_which(condition, event, alone), counts.within(event.c.person_id))
        .group_by(event.c.person_id)
        .subquery()
    )
    counts.add(counted, counted.c.person_id == scope.whose())
    return holds(counted.c.times, op, literal(times, Integer), zero=_zero_holds(op, times))


def _zero_holds(op: str, times: int) -> bool:
    return {">=": times == 0, ">": False, "<": times > 0, "<=": True, "=": times == 0, "!=": times != 0}[op]


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
