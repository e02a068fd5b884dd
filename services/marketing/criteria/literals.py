"""Literals as bound parameters: each is understood here, so that none is left for the server to make something of."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Final
from uuid import UUID

from services.marketing.criteria.catalog import Kind

MAX_TEXT: Final = 2_000
"""Characters of one literal."""
MAX_DIGITS: Final = 18
"""Before a numeric literal's point; and as many behind it are kept as `PLACES`."""
PLACES: Final = 10
MAX_BIGINT: Final = 2**63 - 1
MAX_JSON_DEPTH: Final = 20

TYPES: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.TEXT: "text",
        Kind.INTEGER: "bigint",
        # what has no bound can be multiplied into numbers of a hundred thousand digits, which nothing interrupts
        Kind.NUMERIC: f"numeric(38, {PLACES})",
        Kind.BOOLEAN: "boolean",
        Kind.DATE: "date",
        Kind.INSTANT: "timestamptz",
        Kind.LOCAL: "timestamp",
        Kind.INTERVAL: "interval",
        Kind.UUID: "uuid",
        Kind.JSON: "jsonb",
    }
)
"""How the server calls the type of each kind."""

_BY_TEXT: Final = {Kind.INTERVAL, Kind.JSON}
"""Kinds that are sent as text: the driver's own values lose months, or are made by an encoder of the pool."""

_UNITS: Final = "microsecond|millisecond|second|minute|hour|day|week|month|year|decade|sec|min|mon"
_INTERVAL: Final = re.compile(
    rf"\s*(?:[+-]?\d{{1,6}}(?:\.\d{{1,6}})?\s*(?:{_UNITS})s?\s*){{1,8}}(?:ago\s*)?", re.ASCII | re.IGNORECASE
)
_ISO_INTERVAL: Final = re.compile(
    r"P(?=.)(?:\d{1,6}Y)?(?:\d{1,6}M)?(?:\d{1,6}W)?(?:\d{1,6}D)?(?:T(?=.)(?:\d{1,6}H)?(?:\d{1,6}M)?(?:\d{1,6}S)?)?",
    re.ASCII,
)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_INTEGER: Final = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:e[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)
_PATH_PART: Final = re.compile(r"[^{}\",\\\s]{1,200}")
_BOOLEANS: Final = {
    "true": True,
    "t": True,
    "yes": True,
    "on": True,
    "false": False,
    "f": False,
    "no": False,
    "off": False,
}


class UnfitLiteralError(ValueError):
    """A literal is not what it would have to be; the message is the end of a sentence."""


class Parameters:
    """What is bound to a statement: `$1`, `$2`, ...; equal ones share a place, so a GROUP BY knows what it repeats."""

    def __init__(self, *first: object) -> None:
        self.values: list[object] = list(first)
        self._places: dict[tuple[str, str], str] = {}

    def add(self, value: object, of: str) -> str:
        """Bind a value; the expression that has it, of this type of the server's."""
        key = (of, repr(value))
        if key not in self._places:
            self.values.append(value)
            self._places[key] = f"CAST(${len(self.values)} AS {of})"
        return self._places[key]

    def add_as(self, kind: Kind, text: str) -> str:
        """Bind what a literal means as this kind.

        Raises:
            UnfitLiteralError: it means nothing as that.
        """
        if len(text) > MAX_TEXT:
            raise UnfitLiteralError(f"is longer than {MAX_TEXT:,} characters")
        value = _READERS[kind](text)
        if kind in _BY_TEXT:
            return f"CAST({self.add(value, 'text')} AS {TYPES[kind]})"
        return self.add(value, "numeric" if kind is Kind.NUMERIC else TYPES[kind])


def path_of(text: str) -> list[str]:
    """Return the keys of a path such as `{address,city}`.

    Raises:
        UnfitLiteralError: it is no such path.
    """
    if text.startswith("{") and text.endswith("}"):
        parts = text[1:-1].split(",")
        if len(parts) <= MAX_JSON_DEPTH and all(_PATH_PART.fullmatch(part) for part in parts):
            return parts
    raise UnfitLiteralError("is not a path such as '{address,city}'")


def number_kind(text: str) -> Kind:
    """Return whether a number without quotes is an integer or has a fraction."""
    return Kind.INTEGER if _INTEGER.fullmatch(text) and int(text) <= MAX_BIGINT else Kind.NUMERIC


def _text(text: str) -> str:
    return text


def _integer(text: str) -> int:
    stripped = text.strip()
    if not _INTEGER.fullmatch(stripped) or not -MAX_BIGINT - 1 <= int(stripped) <= MAX_BIGINT:
        raise UnfitLiteralError("is not an integer")
    return int(stripped)


def _numeric(text: str) -> Decimal:
    stripped = text.strip()
    try:
        if not _NUMBER.fullmatch(stripped):
            raise UnfitLiteralError("is not a number")
        value = Decimal(stripped)
    except InvalidOperation:
        raise UnfitLiteralError("is not a number") from None
    if value.adjusted() >= MAX_DIGITS:
        raise UnfitLiteralError(f"has more than {MAX_DIGITS} digits before the point")
    return round(value, PLACES)


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise UnfitLiteralError("is neither true nor false")
    return value


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise UnfitLiteralError("is not a date such as 2026-01-31") from None


def _local(text: str) -> datetime:
    value = _moment(text)
    if value.tzinfo is not None:
        raise UnfitLiteralError("is not a time of day without an offset")
    return value


def _instant(text: str) -> datetime:
    value = _moment(text)
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise UnfitLiteralError("is not a time that there is") from None


def _moment(text: str) -> datetime:
    stripped = text.strip()
    try:
        return datetime.fromisoformat(stripped)
    except ValueError:
        pass
    try:
        return datetime.combine(date.fromisoformat(stripped), time())
    except ValueError:
        raise UnfitLiteralError("is not a time such as 2026-01-31T09:00:00Z") from None


def is_duration(text: str) -> bool:
    """Return whether a literal can be an interval."""
    return bool(_INTERVAL.fullmatch(text) or _ISO_INTERVAL.fullmatch(text))


def _interval(text: str) -> str:
    if not is_duration(text):
        raise UnfitLiteralError("is not a duration such as '3 days' or 'P3D'")
    return text.strip()


def _uuid(text: str) -> UUID:
    stripped = text.strip()
    if not _UUID.fullmatch(stripped):
        raise UnfitLiteralError("is not an id")
    return UUID(stripped)


def _json(text: str) -> str:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise UnfitLiteralError("is not JSON") from None
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_JSON_DEPTH:
            raise UnfitLiteralError(f"is nested deeper than {MAX_JSON_DEPTH} levels")
        if isinstance(part, dict):
            waiting.extend((item, depth + 1) for pair in part.items() for item in pair)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]  # JSON is any
        elif isinstance(part, list):
            waiting.extend((item, depth + 1) for item in part)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # JSON is any
        elif isinstance(part, str) and not _storable(part):
            raise UnfitLiteralError("has text that cannot be stored")
    return text


def _storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _no_constant(_name: str) -> None:
    raise UnfitLiteralError("is not JSON")


_READERS: Final[Mapping[Kind, Callable[[str], object]]] = MappingProxyType(
    {
        Kind.TEXT: _text,
        Kind.INTEGER: _integer,
        Kind.NUMERIC: _numeric,
        Kind.BOOLEAN: _boolean,
        Kind.DATE: _date,
        Kind.INSTANT: _instant,
        Kind.LOCAL: _local,
        Kind.INTERVAL: _interval,
        Kind.UUID: _uuid,
        Kind.JSON: _json,
    }
)
