"""What a row of a file says about a person: columns mapped to fields, their texts to values as the store has them."""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

from pydantic import JsonValue

from core.errors import InvalidError
from services.events.incoming import IncomingEvent
from services.identity import attributes, normalize
from services.identity.consent import Choice
from services.identity.import_cells import Cells
from services.identity.resolve import PRIMARY_KINDS, Identifier

FIELDS: Final[Mapping[str, Callable[[str, str], str | None]]] = {
    "first_name": normalize.line,
    "last_name": normalize.line,
    "time_zone": normalize.time_zone,
    "locale": normalize.locale,
    "source": normalize.line,
}
ROLES: Final = ("lead", "contact", "vendor", "employee")
LENIENT: Final = ("phone", "time_zone", "locale")
"""Targets that may be followed by `:lenient`: what is not acceptable is kept in the attribute `NAME_given`."""

YES: Final = frozenset(
    {"yes", "y", "true", "t", "1", "x", "on", "subscribed", "opted_in", "opted in", "opt-in", "active", "enabled"}
    | {"confirmed"}
)
NO: Final = frozenset(
    {"no", "n", "false", "f", "0", "off", "unsubscribed", "opted_out", "opted out", "opt-out", "inactive", "disabled"}
    | {"blocklisted", "cleaned"}
)
UNDECIDED: Final = frozenset({"pending", "unconfirmed", "unknown", "-"})

_CHOICE: Final = re.compile(r"(?:consent|opted_out)\.(email|sms|push|social)\.([a-z0-9][a-z0-9_\-]{0,62})", re.ASCII)
_PREFIXED: Final = re.compile(r"external_id:([a-z0-9_\-]{1,40})", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
_ALL_DIGITS: Final = 15
"""Digits that a double holds exactly."""


@dataclass(slots=True)
class Change:
    """What one row says, in the store's spelling."""

    line: int
    person_id: str | None = None
    """Of an exported row: it means that person, if there is one."""
    shown: dict[str, str] = field(default_factory=dict[str, str])
    """Identifiers by kind, the first of each."""
    more: list[Identifier] = field(default_factory=list[Identifier])
    fields: dict[str, str] = field(default_factory=dict[str, str])
    attributes: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """A None removes."""
    roles: dict[str, bool] = field(default_factory=dict[str, bool])
    consent: dict[tuple[str, str], Choice] = field(default_factory=dict[tuple[str, str], Choice])
    events: list[IncomingEvent] = field(default_factory=list[IncomingEvent])
    """Without a person: theirs is this one."""

    def identifiers(self) -> list[Identifier]:
        """Return all identifiers, those to be shown first."""
        return list(dict.fromkeys([*self.shown.items(), *self.more])) if self.more else list(self.shown.items())

    def identify(self, kind: str, value: str) -> None:
        """Add a normalized identifier."""
        if self.shown.setdefault(kind, value) != value:
            self.more.append((kind, value))

    def complete(self) -> None:
        """Check that the row means somebody.

        Raises:
            InvalidError: it does not.
        """
        if (
            not self.shown
            and not self.more
            and self.person_id is None
            and not (self.fields.get("first_name") or self.fields.get("last_name"))
        ):
            raise InvalidError.of("email", "is needed, or another identifier, or at least a name")


Setter = Callable[[Change, str], None]
"""Takes a cell that is not empty."""


class Columns:
    """A mapping made ready for a CSV file's rows."""

    def __init__(
        self,
        columns: Sequence[str],
        mapping: Mapping[str, str | None],
        *,
        types: Mapping[str, str] | None = None,
        consent: Sequence[Choice] = (),
    ) -> None:
        """Prepare to read rows of these columns; `types` are those of defined attributes, `consent` is everybody's.

        Raises:
            InvalidError: the mapping names a column that is not there, or a target that means nothing.
        """
        self._consent = {(choice.channel, choice.topic): choice for choice in consent}
        self._cells: Cells[Setter] = Cells(columns, mapping, lambda target: (None, setter(target, types or {})))

    def change(self, line: int, cells: Sequence[str]) -> Change:
        """Return what the row says; an empty cell says nothing.

        Raises:
            InvalidError: naming the target whose cell is not acceptable.
        """
        change = Change(line)
        if self._consent:
            change.consent = dict(self._consent)
        for put, text in self._cells.of(cells):
            put(change, text)
        change.complete()
        return change


def setter(target: str, types: Mapping[str, str]) -> Setter:  # noqa: PLR0911 - one line per kind of target
    """Return what puts a cell into the target.

    Raises:
        InvalidError: it is not a target.
    """
    name, _, kind = target.partition(":")
    if kind == "lenient" and name in LENIENT:
        return partial(_put_leniently, name, setter(name, types))
    if prefixed := _PREFIXED.fullmatch(target):
        return partial(_put_prefixed, prefixed[1])
    if target in normalize.BY_KIND:
        return partial(_put_identifier, target, normalize.BY_KIND[target])
    if target in FIELDS:
        return partial(_put_field, target, FIELDS[target])
    if target in _SPECIAL:
        return _SPECIAL[target]
    if target.startswith("is_") and target[3:] in ROLES:
        return partial(_put_role, target[3:])
    if choice := _CHOICE.fullmatch(target):
        put = _put_consent if target.startswith("consent.") else _put_opt_out
        return partial(put, target, choice[1], choice[2])
    if name.startswith("attributes.") and kind in {"", "json"}:
        key = name.removeprefix("attributes.")
        attributes.check({key: None})
        parse = json_value if kind else _BY_TYPE.get(types.get(key, "text"))
        return partial(_put_parsed, key, parse) if parse else partial(_put_attribute, key)
    raise InvalidError.of("mapping", f"{target[:100]!r} is not a field of a person; see docs/imports.md")


def _put_identifier(kind: str, normal: Callable[[str, str], str], change: Change, text: str) -> None:
    change.identify(kind, normal(text, kind))


def _put_prefixed(prefix: str, change: Change, text: str) -> None:
    change.identify("external_id", normalize.external_id(f"{prefix}:{text}"))


def _put_field(name: str, normal: Callable[[str, str], str | None], change: Change, text: str) -> None:
    value = normal(text, name)
    if value is not None:
        change.fields.setdefault(name, value)


def _put_leniently(name: str, put: Setter, change: Change, text: str) -> None:
    try:
        put(change, text)
    except InvalidError:
        change.attributes.setdefault(f"{name}_given", text)


def _put_name(change: Change, text: str) -> None:
    first, _, last = text.rpartition(" ")
    if not first:
        first, last = last, ""
    _put_field("first_name", normalize.line, change, first)
    _put_field("last_name", normalize.line, change, last)


def _put_role(role: str, change: Change, text: str) -> None:
    change.roles[role] = _word(text, f"is_{role}")


def _put_roles(change: Change, text: str) -> None:
    for role in text.replace(",", " ").split():
        if role not in ROLES:
            raise InvalidError.of("roles_by_hand", f"may hold {', '.join(ROLES)}")
        change.roles[role] = True


def _put_consent(target: str, channel: Any, topic: str, change: Change, text: str) -> None:  # noqa: ANN401 - matched
    word = text.lower()
    if word in UNDECIDED:
        return
    status = "opted_in" if _word(word, target) else "opted_out"
    change.consent[channel, topic] = Choice(channel, topic, status, "import")


def _put_opt_out(_target: str, channel: Any, topic: str, change: Change, text: str) -> None:  # noqa: ANN401 - matched
    # `unsubscribed: true`, the time of leaving, `blocklisted`: everything but a plain no. A list's own word for being
    # on it is no opt-in to anything here.
    word = text.lower()
    if word in {"no", "n", "false", "f", "0", "off", "subscribed", "active", "enabled"} | UNDECIDED:
        return
    change.consent[channel, topic] = Choice(channel, topic, "opted_out", "import")


def _put_attribute(key: str, change: Change, text: str) -> None:
    change.attributes[key] = text


def _put_parsed(key: str, parse: Callable[[str, str], JsonValue], change: Change, text: str) -> None:
    change.attributes[key] = parse(text, f"attributes.{key}")


def _put_tags(change: Change, text: str) -> None:
    change.attributes["tags"] = _list(text, "tags")


def _put_attributes(change: Change, text: str) -> None:
    value = json_value(text, "attributes")
    if not isinstance(value, dict):
        raise InvalidError.of("attributes", "is not a JSON object")
    attributes.check(value)
    change.attributes |= value


def _put_identifiers(change: Change, text: str) -> None:
    put_identifiers(change, json_value(text, "other_identifiers"))


def put_identifiers(change: Change, value: object) -> None:
    """Add identifiers given as `[{"kind": ..., "value": ...}]`, after those that are to be shown.

    Raises:
        InvalidError: it is not such a list.
    """
    for item in cast("list[object]", value) if isinstance(value, list) else [None]:
        match item:
            case {"kind": str(kind), "value": str(text)} if kind in normalize.BY_KIND:
                identifier = (kind, normalize.BY_KIND[kind](text, "identifiers"))
                if change.shown.get(kind) != identifier[1]:
                    change.more.append(identifier)
            case _:
                raise InvalidError.of("identifiers", 'must be a list of {"kind", "value"}')


def _put_id(change: Change, text: str) -> None:
    change.person_id = text


def _word(text: str, target: str) -> bool:
    word = text.lower()
    if word in YES:
        return True
    if word in NO:
        return False
    raise InvalidError.of(target, "must be yes or no, true or false, subscribed or unsubscribed")


def json_value(text: str, target: str) -> JsonValue:
    """Return the JSON value that a cell holds.

    Raises:
        InvalidError: naming `target`: it is none, or cannot be stored.
    """
    try:
        value: JsonValue = json.loads(text)
        plain = json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise InvalidError.of(target, "is not JSON") from error
    if "\\u0000" in plain or ("\\ud" in plain and not _whole(value)):
        raise InvalidError.of(target, "holds a character that cannot be stored (NUL or half a pair)")
    return value


def _whole(value: JsonValue) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(text: str, target: str) -> JsonValue:
    if _NUMBER.fullmatch(text) is None:
        raise InvalidError.of(target, "must be a number, as 12 or 12.5")
    return float(text) if "." in text or len(text) > _ALL_DIGITS else int(text)


def _boolean(text: str, target: str) -> JsonValue:
    return _word(text, target)


def _list(text: str, _target: str) -> JsonValue:
    # Mailchimp quotes each of its tags, as in a CSV line of their own.
    (items,) = csv.reader([text.replace(";", ",").replace("\n", ",").replace("\r", "")], skipinitialspace=True)
    return [item for each in items if (item := each.strip())]


_SPECIAL: Final[Mapping[str, Setter]] = {
    "id": _put_id,
    "name": _put_name,
    "tags": _put_tags,
    "created_at": partial(_put_attribute, "created_at"),
    "roles_by_hand": _put_roles,
    "attributes:json": _put_attributes,
    "identifiers:json": _put_identifiers,
}
_BY_TYPE: Final[Mapping[str, Callable[[str, str], JsonValue]]] = {
    "number": _number,
    "boolean": _boolean,
    "list": _list,
}
PRIMARY: Final = PRIMARY_KINDS
