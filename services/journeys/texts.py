"""Texts with places for fields, filled in for all members at once."""

from typing import Any

from sqlalchemy import Text, case, func, literal, null
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from journeys.filling import sole_field
from journeys.texts import PlacedText
from services.shared.conditions_fields import UTC_ZONE, Value
from services.shared.conditions_sql import Scope, field_value

UNTITLED = "(untitled)"
"""Where nothing is left of a text, as the fields are missing that it consists of."""


def filled(text: PlacedText, scope: Scope, *, most: int) -> ColumnElement[str]:
    """Return the text with what its fields hold, cut to `most` characters; a missing one is nothing.

    Raises:
        UnsupportedCondition: a field is not known in this scope.
    """
    if not text.fields:
        return literal(text.text, Text)
    return func.coalesce(_joined(text, scope, most), UNTITLED, type_=Text)


def filled_json(text: PlacedText, scope: Scope, *, most: int) -> ColumnElement[Any]:
    """Return what a text comes to as JSONB: the value itself where a field is all of it; NULL where nothing is left.

    Raises:
        UnsupportedCondition: a field is not known in this scope.
    """
    field = sole_field(text)
    if field is None:
        return func.to_jsonb(_joined(text, scope, most), type_=JSONB)
    value = field_value(field, scope)
    if value.json is not None:
        return case((value.present, value.json), else_=null().cast(JSONB))
    if value.instant is not None:
        shown = func.to_char(func.timezone(UTC_ZONE, value.instant), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"', type_=Text)
        return func.to_jsonb(shown, type_=JSONB)
    held = value.boolean if value.boolean is not None else value.number
    if held is None:
        held = func.left(value.text, most, type_=Text)
    return case((value.present, func.to_jsonb(held, type_=JSONB)), else_=null().cast(JSONB))


def _joined(text: PlacedText, scope: Scope, most: int) -> ColumnElement[str]:
    """Return the text with what its fields hold; NULL where nothing is left."""
    parts = [literal(part, Text) if isinstance(part, str) else _shown(field_value(part, scope)) for part in text.parts]
    return func.nullif(func.btrim(func.left(func.concat(*parts), most)), "", type_=Text)


def _shown(value: Value) -> ColumnElement[str]:
    if value.text is not None:
        return value.text
    if value.number is not None:
        return sql_cast(func.trim_scale(value.number), Text)
    if value.instant is not None:
        return func.to_char(func.timezone(UTC_ZONE, value.instant), "YYYY-MM-DD HH24:MI", type_=Text)
    return sql_cast(value.boolean, Text)
