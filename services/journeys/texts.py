"""Texts with places for fields, filled in for all members at once."""

from sqlalchemy import Text, func, literal
from sqlalchemy import cast as sql_cast
from sqlalchemy.sql.elements import ColumnElement

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
    parts = [literal(part, Text) if isinstance(part, str) else _shown(field_value(part, scope)) for part in text.parts]
    whole = func.btrim(func.left(func.concat(*parts), most))
    return func.coalesce(func.nullif(whole, ""), UNTITLED, type_=Text)


def _shown(value: Value) -> ColumnElement[str]:
    if value.text is not None:
        return value.text
    if value.number is not None:
        return sql_cast(func.trim_scale(value.number), Text)
    if value.instant is not None:
        return func.to_char(func.timezone(UTC_ZONE, value.instant), "YYYY-MM-DD HH24:MI", type_=Text)
    return sql_cast(value.boolean, Text)
