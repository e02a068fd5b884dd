"""What a line of an NDJSON file says about a person: an object as `POST /people` takes it, perhaps with events."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

from core.errors import InvalidError
from services.events import incoming
from services.events.incoming import IncomingEvent
from services.identity import attributes, consent, normalize
from services.identity.consent import Choice
from services.identity.import_mapping import FIELDS, ROLES, Change, put_identifiers

MAX_EVENTS: Final = 1_000
"""Of one person, in one line."""
MAX_CONSENT: Final = 100
COMPUTED: Final = frozenset(
    {"roles", "is_customer", "lifecycle_stage", "qualified_at", "score", "created_at", "updated_at", "last_seen_at"}
)
"""Fields of an export that the platform itself says; taking them in would make facts of results."""

_CHANNELS: Final = frozenset({"email", "sms", "push", "social"})
_EVENT_FIELDS: Final = frozenset({"type", "properties", "occurred_at", "idempotency_key"})


class Items:
    """Reads the objects of a file."""

    def __init__(self, consent: Sequence[Choice] = ()) -> None:
        """Add the choices of `consent` to everybody's own."""
        self._consent = {(choice.channel, choice.topic): choice for choice in consent}

    def change(self, line: int, item: Mapping[str, Any]) -> Change:
        """Return what the object says; null is the same as absent.

        Raises:
            InvalidError: naming the field that is not acceptable.
        """
        change = Change(line, consent=dict(self._consent))
        for name, value in item.items():
            if value is None or name in COMPUTED:
                continue
            put = _PUT.get(name)
            if put is None:
                raise InvalidError.of(name[:100], "is not a known field")
            put(change, value)
        change.complete()
        return change


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidError.of(name, "must be a text")
    return value


def _identifier(kind: str) -> Callable[[Change, Any], None]:
    def put(change: Change, value: object) -> None:
        # The one named is the one to show, also where `identifiers` came before it.
        change.shown[kind] = normalize.BY_KIND[kind](_text(value, kind), kind)

    return put


def _field(name: str) -> Callable[[Change, Any], None]:
    def put(change: Change, value: object) -> None:
        kept = FIELDS[name](_text(value, name), name)
        if kept is not None:
            change.fields[name] = kept

    return put


def _role(role: str) -> Callable[[Change, Any], None]:
    def put(change: Change, value: object) -> None:
        if not isinstance(value, bool):
            raise InvalidError.of(f"is_{role}", "must be true or false")
        change.roles[role] = value

    return put


def _roles_by_hand(change: Change, value: object) -> None:
    for role in cast("list[object]", value) if isinstance(value, list) else [None]:
        if role not in ROLES:
            raise InvalidError.of("roles_by_hand", f"must be a list of {', '.join(ROLES)}")
        change.roles[str(role)] = True


def _attributes(change: Change, value: object) -> None:
    if not isinstance(value, dict):
        raise InvalidError.of("attributes", "must be an object")
    given = cast("dict[str, Any]", value)
    attributes.check(given)
    change.attributes = given


def _consent(change: Change, value: object) -> None:
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    if len(items) > MAX_CONSENT:
        raise InvalidError.of("consent", f"may have at most {MAX_CONSENT} items")
    for number, item in enumerate(items):
        choice = _choice(item, f"consent.{number}")
        if choice is not None:
            change.consent[choice.channel, choice.topic] = choice


def _choice(item: object, path: str) -> Choice | None:
    """Return the choice; None for one that is asked for and not answered, which says nothing."""
    given = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
    channel, topic, status, source = (given.get(name) for name in ("channel", "topic", "status", "source"))
    if channel not in _CHANNELS or not isinstance(topic, str) or status not in {"opted_in", "opted_out", "pending"}:
        raise InvalidError.of(path, "must have a channel, a topic, and the status opted_in or opted_out")
    if source is not None and (not isinstance(source, str) or len(source) > normalize.MAX_TEXT):
        raise InvalidError.of(f"{path}.source", f"must be a text of at most {normalize.MAX_TEXT} characters")
    if status == "pending":
        return None
    choice = Choice(channel, topic, status, source or "import")
    consent.check([choice])
    return choice


def _events(change: Change, value: object) -> None:
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    if len(items) > MAX_EVENTS:
        raise InvalidError.of("events", f"may have at most {MAX_EVENTS} items")
    change.events = [_event(item, f"events.{number}") for number, item in enumerate(items)]


def _event(item: object, path: str) -> IncomingEvent:
    if not isinstance(item, dict):
        raise InvalidError.of(path, "must be an object")
    given = cast("dict[str, Any]", item)
    if unknown := sorted(given.keys() - _EVENT_FIELDS):
        raise InvalidError.of(f"{path}.{unknown[0][:100]}", "is not a known field")
    properties: object = given.get("properties") or {}
    if not isinstance(properties, dict):
        raise InvalidError.of(f"{path}.properties", "must be an object")
    key = given.get("idempotency_key")
    try:
        return incoming.check(
            event_type=_text(given.get("type"), "type"),
            # any text will do: whom it is about is the line's person, once that is known
            identifiers={"external_id": "-"},
            properties=cast("dict[str, Any]", properties),
            occurred_at=_time(given.get("occurred_at")),
            idempotency_key=None if key is None else _text(key, "idempotency_key"),
            backfill=True,
        )
    except InvalidError as error:
        first = error.errors[0]
        raise InvalidError.of(f"{path}.{first.field}", first.reason) from error


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(_text(value, "occurred_at"))
    except ValueError as error:
        raise InvalidError.of("occurred_at", "must be a time of RFC 3339, as 2026-01-31T12:00:00Z") from error


def _id(change: Change, value: object) -> None:
    change.person_id = _text(value, "id")


def _identifiers(change: Change, value: object) -> None:
    put_identifiers(change, value)


_PUT: Final[Mapping[str, Callable[[Change, Any], None]]] = {
    **{kind: _identifier(kind) for kind in normalize.BY_KIND},
    **{name: _field(name) for name in FIELDS},
    **{f"is_{role}": _role(role) for role in ROLES},
    "id": _id,
    "identifiers": _identifiers,
    "roles_by_hand": _roles_by_hand,
    "attributes": _attributes,
    "consent": _consent,
    "events": _events,
}
