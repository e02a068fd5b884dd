"""What a decision saw: the values of the fields it compared, kept with the step in the statement that decides."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Text, case, func, null, select, true
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB

from journeys.conditions import Condition, EventCondition, FieldCondition, FieldPath
from journeys.wording import seen_by_key
from services.shared.conditions_sql import (
    Scope,
    UnsupportedCondition,
    compile_condition,
    events_counted,
    field_value,
)

LONGEST: Final = 200
"""Characters kept of a value: enough to see why."""
MOST: Final = 1_000
"""Events are counted no further."""


def seen(conditions: Iterable[Condition], scope: Scope) -> ColumnElement[Any] | None:
    """Return, as one JSON object, what the conditions saw; None where there is nothing of the kind to keep."""
    parts: list[Any] = []
    for key, condition in seen_by_key(conditions).items():
        value = _value(condition, scope)
        if value is not None:
            parts += [sql_cast(key, Text), value]
    return func.jsonb_build_object(*parts, type_=JSONB) if parts else None


def as_detail(found: ColumnElement[Any] | None) -> ColumnElement[Any]:
    """Return the detail of a step that saw this."""
    return null().cast(JSONB) if found is None else func.jsonb_build_object("seen", found, type_=JSONB)


def seen_in(detail: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return what a step's detail says that was seen."""
    return (detail or {}).get("seen") or {}


def _value(condition: Condition, scope: Scope) -> ColumnElement[Any] | None:
    match condition:
        case FieldCondition():
            return _held(condition.field, scope)
        case EventCondition():
            event, counted = events_counted(condition, scope)
            found = select(true()).select_from(event).where(*counted).limit(MOST).correlate_except(event).subquery()
            return select(func.count()).select_from(found).scalar_subquery()
        case _:
            return compile_condition(condition, scope)


def _held(field: FieldPath, scope: Scope) -> ColumnElement[Any] | None:
    """Return what a field holds, as JSON; None where it is one of several things'."""
    try:
        value = field_value(field, scope)
    except UnsupportedCondition:
        return None
    if value.json is not None:
        short = func.length(sql_cast(value.json, Text)) <= LONGEST
        return case((value.present, case((short, value.json), else_=func.to_jsonb(func.left(value.text, LONGEST)))))
    if value.text is not None:
        return case((value.present, func.left(value.text, LONGEST)))
    own = next((each for each in (value.number, value.instant, value.boolean) if each is not None), None)
    return None if own is None else case((value.present, own))
