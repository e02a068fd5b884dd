"""What a client may send as an event: checked here, so that every way in (API, forms, imports) has the same rules."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from pydantic_core import to_json

from contracts.events import ORDER_CANCELLED, ORDER_PLACED, ORDER_REFUNDED, problem_with_type
from core import currency
from core.errors import FieldProblem, InvalidError
from services.events.declared import NOTHING_DECLARED, Declarations, Misfit, MisfitError, misfit
from services.events.publish import PLATFORM_KEYS
from services.identity.normalize import BY_KIND
from services.identity.resolve import Identifier

MAX_PROPERTIES_BYTES: Final = 32_768
"""Of the properties as compact JSON in UTF-8."""
MAX_PROPERTIES_DEPTH: Final = 10
"""Objects and arrays within one another, the properties themselves counted."""
MAX_KEY_LENGTH: Final = 255
OLD_AFTER: Final = timedelta(hours=24)
"""An event that occurred longer ago than this starts nothing and sends nothing."""
CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""How far ahead of ours a client's clock may be."""


class IncomingEvent(NamedTuple):
    """An event that passed `check`."""

    type: str
    person_id: UUID | None
    identifiers: tuple[Identifier, ...]
    """At least one where `person_id` is None."""
    properties: str
    """A JSON object, as text."""
    occurred_at: datetime
    live: bool
    idempotency_key: str | None
    misfit: Misfit | None = None
    """How it differs from what its tenant declares, where that does not keep it out."""


def check(  # noqa: PLR0913 - the fields of an event
    *,
    event_type: str,
    person_id: UUID | None = None,
    identifiers: Mapping[str, str | None],
    properties: Mapping[str, Any],
    occurred_at: datetime | None = None,
    idempotency_key: str | None = None,
    backfill: bool = False,
    now: datetime | None = None,
    declared: Declarations = NOTHING_DECLARED,
) -> IncomingEvent:
    """Return the event, its identifiers normalized.

    `identifiers` maps kinds to texts as the client wrote them; None is the same as absent.

    Raises:
        MisfitError: it is otherwise well, but not as the tenant declares its type.
        InvalidError: with every field at fault, by its path in the event.
    """
    problems: list[FieldProblem] = []
    if (reason := _problem_with_type(event_type)) is not None:
        problems.append(FieldProblem("type", reason))
    normal = _normalized(identifiers, problems)
    if person_id is None and not normal and all(text is None for text in identifiers.values()):
        problems.append(FieldProblem("person", f"must have one of id, {', '.join(BY_KIND)}"))
    now = now or datetime.now(UTC)
    if occurred_at is None:
        occurred_at = now
    elif (reason := _problem_with_time(occurred_at, now)) is not None:
        problems.append(FieldProblem("occurred_at", reason))
    if idempotency_key is not None and (reason := _problem_with_key(idempotency_key)) is not None:
        problems.append(FieldProblem("idempotency_key", reason))
    text = _as_json(properties, problems)
    if event_type in _PROPERTY_CHECKS:
        _PROPERTY_CHECKS[event_type](properties, problems)
    if problems:
        raise InvalidError("; ".join(f"{p.field}: {p.reason}" for p in problems[:3]), errors=problems)
    found = misfit(declared, event_type, properties) if event_type in declared else None
    if found is not None and found.rejected:
        raise MisfitError(found)
    live = not backfill and now - occurred_at <= OLD_AFTER
    return IncomingEvent(event_type, person_id, normal, text, occurred_at, live, idempotency_key, found)


_problem_with_type: Final = lru_cache(maxsize=1_024)(problem_with_type)
"""Of types there are few."""


def _normalized(identifiers: Mapping[str, str | None], problems: list[FieldProblem]) -> tuple[Identifier, ...]:
    normal: list[Identifier] = []
    for kind, text in identifiers.items():
        if text is not None:
            try:
                normal.append((kind, BY_KIND[kind](text, f"person.{kind}")))
            except InvalidError as error:
                problems.extend(error.errors)
    return tuple(normal)


def _problem_with_time(occurred_at: datetime, now: datetime) -> str | None:
    if occurred_at.tzinfo is None:
        return "must have an offset from UTC, as in 2026-01-31T12:00:00Z"
    if occurred_at - now > CLOCK_TOLERANCE:
        return "must not be more than an hour in the future"
    return None


def _problem_with_key(key: str) -> str | None:
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        return f"must have 1 to {MAX_KEY_LENGTH} characters"
    if not key.isprintable():
        return "must not contain control characters"
    if key.startswith(PLATFORM_KEYS):
        return f"must not begin with {PLATFORM_KEYS}"
    return None


def _as_json(properties: Mapping[str, Any], problems: list[FieldProblem]) -> str:
    try:
        # Twice as fast as the standard library's, which keeps no encoder between calls.
        written = to_json(properties, inf_nan_mode="constants")
    except (ValueError, TypeError, RecursionError):  # half a surrogate pair, a cycle, or no JSON value at all
        problems.append(_unwritable(properties))
        return "{}"
    # Texts hold such words and brackets too, but few that are sent have them, or so many.
    if (b"NaN" in written or b"Infinity" in written) and not _finite(properties):
        problems.append(_unwritable(properties))
    elif written.count(b"{") + written.count(b"[") > MAX_PROPERTIES_DEPTH and _deeper_than(
        properties, MAX_PROPERTIES_DEPTH
    ):
        problems.append(_TOO_DEEP)
    elif len(written) > MAX_PROPERTIES_BYTES:
        problems.append(FieldProblem("properties", f"must not exceed {MAX_PROPERTIES_BYTES} bytes as JSON"))
    elif b"\\u0000" in written and _has_nul(properties):
        problems.append(FieldProblem("properties", "must not contain the character NUL"))
    return written.decode()


_TOO_DEEP: Final = FieldProblem("properties", f"nest deeper than {MAX_PROPERTIES_DEPTH} levels")


def _unwritable(properties: Mapping[str, Any]) -> FieldProblem:
    if _deeper_than(properties, MAX_PROPERTIES_DEPTH):
        return _TOO_DEEP
    return FieldProblem("properties", "cannot be written as JSON in UTF-8")


def _finite(properties: Mapping[str, Any]) -> bool:
    try:
        json.dumps(properties, allow_nan=False)
    except ValueError:
        return False
    return True


def _deeper_than(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        members = cast("dict[object, object]", value).values()
    elif isinstance(value, list):
        members = cast("list[object]", value)
    else:
        return False
    return levels == 0 or any(_deeper_than(member, levels - 1) for member in members)


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(member) for name, member in cast("dict[object, object]", value).items())
    return isinstance(value, list) and any(map(_has_nul, cast("list[object]", value)))


def amount(properties: Mapping[str, Any]) -> tuple[int, str]:
    """Return an order event's total in the currency's smallest unit, and the currency.

    Raises:
        InvalidError: naming `properties.total` or `properties.currency`.
    """
    code = properties.get("currency")
    if not isinstance(code, str) or code not in currency.EXPONENTS:
        raise InvalidError.of("properties.currency", "must be a currency code of ISO 4217, such as EUR")
    total = properties.get("total")
    if isinstance(total, bool) or not isinstance(total, str | int | float):
        raise InvalidError.of("properties.total", 'must be an amount, as in "12.50"')
    try:
        # A float through its shortest text: 19.99 is meant as 19.99.
        minor = currency.to_minor(Decimal(str(total)), code)
    except InvalidOperation as error:
        raise InvalidError.of("properties.total", 'must be an amount, as in "12.50"') from error
    except ValueError as error:
        raise InvalidError.of("properties.total", str(error)) from error
    if minor < 0:
        raise InvalidError.of("properties.total", "must not be negative")
    return minor, code


def order_id(properties: Mapping[str, Any]) -> str | None:
    """Return the shop's id of the order as text, None where the event names none.

    Raises:
        InvalidError: naming `properties.order_id`.
    """
    given = properties.get("order_id")
    if given is None:
        return None
    text = str(given)
    if isinstance(given, bool) or not isinstance(given, str | int) or not 1 <= len(text) <= MAX_KEY_LENGTH:
        raise InvalidError.of(
            "properties.order_id", f"must be a text of 1 to {MAX_KEY_LENGTH} characters, or an integer"
        )
    return text


def _check_order(properties: Mapping[str, Any], problems: list[FieldProblem]) -> None:
    for part in (amount, order_id):
        try:
            part(properties)
        except InvalidError as error:
            problems.extend(error.errors)


def _check_cancelled(properties: Mapping[str, Any], problems: list[FieldProblem]) -> None:
    if "unpaid" not in properties:
        return
    found: list[FieldProblem] = []
    _check_order({**properties, "total": properties["unpaid"]}, found)
    renamed = {"properties.total": "properties.unpaid"}
    problems += [FieldProblem(renamed.get(one.field, one.field), one.reason) for one in found]


_PROPERTY_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any], list[FieldProblem]], None]]] = {
    ORDER_PLACED: _check_order,
    ORDER_REFUNDED: _check_order,
    ORDER_CANCELLED: _check_cancelled,
}
