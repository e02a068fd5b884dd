"""Values that come from elsewhere, made to fit the types that a schema asks for where their meaning allows it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from core.errors import InvalidError
from services.objects.record_columns import converter
from services.objects.schemas import Schema
from services.objects.shapes import kinds_of

_NUMBERS: Final = frozenset({"number", "integer"})


def fitted(schema: Schema, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return properties on the top level with texts read as what the schema wants, and other scalars as texts.

    `"100.00"` is a number where only a number fits, and `5` is `"5"` where only a text fits. What fits neither way
    stays as it is, for the schema to refuse.
    """
    return {name: _fitted(kinds_of(schema, name) - {"null"}, value) for name, value in properties.items()}


def _fitted(kinds: frozenset[str], value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, str) and kinds and "string" not in kinds:
        try:
            return converter(kinds)(value, "")
        except InvalidError:
            return value
    if isinstance(value, bool):
        return ("true" if value else "false") if "string" in kinds and "boolean" not in kinds else value
    if isinstance(value, int | float | Decimal) and "string" in kinds and not kinds & _NUMBERS:
        return f"{Decimal(str(value)):f}"
    return value
