"""What a page of rows comes to: whom each row means, what that changes, and what is to be written.

Rows are taken in order, each as if it had come alone; people who come twice are written once. All of it is decided in
memory, from what two statements read of the store, so that the number of statements does not depend on the rows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal
from uuid import UUID

from contracts.events import PERSON_CREATED, PERSON_SUBSCRIBED, PERSON_UNSUBSCRIBED, PERSON_UPDATED
from core.errors import FieldProblem, PlatformError
from core.ids import new_id
from services.events.incoming import IncomingEvent
from services.identity import attributes
from services.identity.consent import Choice
from services.identity.import_mapping import FIELDS, Change
from services.identity.import_target import Refused
from services.identity.resolve import PRIMARY_KINDS, Directory, Identifier, SeveralPeopleError
from services.identity.topics import ALL

Existing = Literal["update", "fill_empty", "skip"]
"""What becomes of people who are there already: changed as by `POST /people`, only where nothing stands, or left."""

COLUMNS: Final = (*PRIMARY_KINDS, *FIELDS)
"""Of a person's row, all texts."""
CONSENT_CHANGED: Final = "person.consent_changed"
_SMALL: Final = 4_000
"""Characters of a row that cannot exceed what the attributes of a person may take."""


@dataclass(slots=True)
class State:
    """A person as the page finds it, and then as it leaves it."""

    id: UUID
    known: bool
    """There before the page."""
    texts: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """By the names in `COLUMNS`."""
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    roles: frozenset[str] = frozenset()
    consent: dict[tuple[str, str], tuple[str, str | None]] = field(
        default_factory=dict[tuple[str, str], tuple[str, str | None]]
    )
    """Status and source."""
    changes: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])
    """`{field: [before, after]}`, as the activity log has it."""
    choices: dict[tuple[str, str], Choice] = field(default_factory=dict[tuple[str, str], Choice])
    consent_changes: dict[str, list[Any]] = field(default_factory=dict[str, list[Any]])

    def note(self, name: str, before: object, after: object) -> None:
        """Log a change on top of those before it."""
        first = self.changes.setdefault(name, [before, after])
        first[1] = after


@dataclass(slots=True)
class Outcome:
    """What a page does; the tuples are rows to copy, see `services.identity.import_write`."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: list[Refused] = field(default_factory=list[Refused])
    people: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    consent: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    activities: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    events: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    incoming: list[tuple[UUID, IncomingEvent]] = field(default_factory=list[tuple[UUID, IncomingEvent]])
    taken: set[UUID] = field(default_factory=set[UUID])
    """Whom the rows that were not refused mean."""
    visitors: list[frozenset[UUID]] = field(default_factory=list[frozenset[UUID]])
    """People whom one row means, of whom some may be but visitors that are known now."""
    facts_changed: list[UUID] = field(default_factory=list[UUID])
    """Whose roles or stage may be others now."""


Row = tuple[Change, UUID]
"""What it says, and whom it means."""


def assigned(changes: Sequence[Change], directory: Directory, outcome: Outcome) -> list[Row]:
    """Return whom each row means; refuse those that mean two people."""
    rows: list[Row] = []
    for change in changes:
        identifiers = change.identifiers()
        try:
            rows.append((change, directory.assign(_named(change, directory), identifiers)))
        except PlatformError as error:
            outcome.refused.append(Refused(change.line, "identifiers", error.errors[0].reason))
            if isinstance(error, SeveralPeopleError) and any(kind == "anonymous_id" for kind, _ in identifiers):
                outcome.visitors.append(error.people)
    return rows


def _named(change: Change, directory: Directory) -> UUID | None:
    """Return the person of an exported row, where it is still there."""
    if change.person_id is None:
        return None
    try:
        person_id = UUID(change.person_id)
    except ValueError:
        return None
    person_id = directory.aliases.get(person_id, person_id)
    return person_id if person_id in directory.people else None


class Page:
    """Applies rows to the people they mean."""

    def __init__(self, states: Mapping[UUID, State], existing: Existing, *, resubscribe: bool) -> None:
        """Begin with the `states` of people known; opt-outs stand against opt-ins unless `resubscribe`."""
        self._states = dict(states)
        self._existing = existing
        self._resubscribe = resubscribe

    def apply(self, rows: Sequence[Row], directory: Directory, outcome: Outcome) -> None:
        """Take the rows in, counting them, and fill in what is to be written."""
        if self._existing == "skip":
            directory.attached.clear()
        added = [*directory.created.values(), *directory.attached.values()]
        unclaimed = {identifier for identifiers in added for identifier in identifiers}
        for change, person_id in rows:
            state = self._states.get(person_id)
            new = state is None
            if state is None:
                state = State(person_id, known=False)
            elif self._existing == "skip" and state.known:
                outcome.unchanged += 1
                outcome.taken.add(person_id)
                continue
            fresh = [identifier for identifier in change.identifiers() if identifier in unclaimed]
            try:
                changed = self._merge(state, change, fresh)
            except PlatformError as error:
                _refuse(error, change, outcome)
                continue
            unclaimed.difference_update(fresh)
            self._states[person_id] = state
            outcome.taken.add(person_id)
            if new:
                outcome.created += 1
            elif changed:
                outcome.updated += 1
            else:
                outcome.unchanged += 1
            outcome.incoming.extend((person_id, event) for event in change.events)
        for identifiers in added if unclaimed else ():  # only rows that were refused had these
            identifiers[:] = [identifier for identifier in identifiers if identifier not in unclaimed]
        for state in self._states.values():
            _write(state, outcome)

    def _merge(self, state: State, change: Change, fresh: Sequence[Identifier]) -> bool:
        """Make the row's changes to the person; whether there were any. Raises before it changes anything."""
        fill = self._existing == "fill_empty" and state.known
        given = change.attributes
        if fill:
            given = {name: value for name, value in given.items() if name not in state.attributes}
        merged = _merged(state.attributes, given) if given else state.attributes
        changed = False
        for name, value in (*change.shown.items(), *change.fields.items()):
            if name == "anonymous_id":
                continue
            before = state.texts.get(name)
            if before == value or ((fill or name == "source") and before is not None):
                continue
            state.texts[name] = value
            state.note(name, before, value)
            changed = True
        if merged is not state.attributes:
            for name in given:
                before, after = state.attributes.get(name), merged.get(name)
                if not same(before, after):
                    state.note(f"attributes.{name}", before, after)
                    changed = True
            state.attributes = merged
        if change.roles:
            changed |= self._set_roles(state, change.roles)
        if change.consent:
            changed |= self._choose(state, change.consent.values(), fill=fill)
        return _identify(state, fresh) or changed

    @staticmethod
    def _set_roles(state: State, roles: Mapping[str, bool]) -> bool:
        wanted = (state.roles | {role for role, holds in roles.items() if holds}) - {
            role for role, holds in roles.items() if not holds
        }
        if wanted == state.roles:
            return False
        state.note("roles_by_hand", sorted(state.roles), sorted(wanted))
        state.roles = wanted
        return True

    def _choose(self, state: State, choices: Iterable[Choice], *, fill: bool) -> bool:
        changed = False
        for choice in choices:
            key = choice.channel, choice.topic
            if choice.topic == ALL and choice.status == "opted_in":
                continue  # everything is no topic that anybody opts in to
            standing = state.consent.get(key)
            if standing is not None and (
                fill
                or standing[0] == choice.status
                or (standing[0] == "opted_out" and choice.status == "opted_in" and not self._resubscribe)
            ):
                continue
            before = None if standing is None else {"status": standing[0], "source": standing[1]}
            after = {"status": choice.status, "source": choice.source}
            state.consent_changes.setdefault(f"{choice.channel}:{choice.topic}", [before, after])[1] = after
            state.consent[key] = choice.status, choice.source
            state.choices[key] = choice
            changed = True
        return changed


def _identify(state: State, fresh: Sequence[Identifier]) -> bool:
    """Note identifiers that are new to the person; whether there are any."""
    for kind, value in fresh:
        if kind in PRIMARY_KINDS:
            shown = state.texts.get(kind)
            if shown is None:
                state.texts[kind] = value
                state.note(kind, None, value)
            if shown is None or shown == value:
                continue
        noted = state.changes.setdefault("identifiers", [None, []])[1]
        if [kind, value] not in noted:
            noted.append([kind, value])
    return bool(fresh)


def _refuse(error: PlatformError, change: Change, outcome: Outcome) -> None:
    problem = error.errors[0] if error.errors else FieldProblem("attributes", error.detail)
    outcome.refused.append(Refused(change.line, problem.field, problem.reason))


def _merged(current: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    if not current and sum(len(value) if isinstance(value, str) else _SMALL for value in given.values()) < _SMALL:
        return dict(given)
    return attributes.merged(current, given)


def same(one: object, other: object) -> bool:
    """Whether two JSON values are the same; Python holds true and 1 for equal."""
    if type(one) is str or type(other) is str:
        return one == other
    return one == other and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


_dumps: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


@lru_cache(maxsize=1_024)  # files say the same of all people
def _fields(names: tuple[str, ...]) -> str:
    return _dumps({"fields": sorted(names)})


_CONSENT_EVENTS: Final = {"opted_in": PERSON_SUBSCRIBED, "opted_out": PERSON_UNSUBSCRIBED}


def _write(state: State, outcome: Outcome) -> None:
    if state.changes or not state.known:
        texts = state.texts.get
        outcome.people.append(
            (
                state.id,
                not state.known,
                *[texts(name) for name in COLUMNS],
                _dumps(state.attributes) if state.attributes else "{}",
                sorted(state.roles),
            )
        )
        verb = PERSON_UPDATED if state.known else PERSON_CREATED
        outcome.activities.append((new_id(), state.id, verb, _dumps(state.changes)))
        outcome.events.append((new_id(), state.id, verb, _fields(tuple(state.changes))))
    if state.choices:
        outcome.activities.append((new_id(), state.id, CONSENT_CHANGED, _dumps(state.consent_changes)))
        for (channel, topic), choice in state.choices.items():
            outcome.consent.append((new_id(), state.id, channel, topic, choice.status, choice.source, choice.wording))
            properties = _dumps({"channel": channel, "topic": topic})
            outcome.events.append((new_id(), state.id, _CONSENT_EVENTS[choice.status], properties))
    if state.choices or "roles_by_hand" in state.changes:
        outcome.facts_changed.append(state.id)
