"""Communications that the sender did not send: logged, changed and deleted. `communication_log` reads them.

Texts of a communication stand in its row alone: neither the activity log nor an event repeats them, so deleting it, or
erasing its person, is all that it takes to forget them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import attributes as attribute_state

from contracts.events import COMMUNICATION_DELETED, COMMUNICATION_LOGGED, COMMUNICATION_UPDATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError, NotFoundError
from core.ids import new_id
from models import Communication, Organization
from services.events.publish import NewEvent, publish
from services.identity import people
from services.identity.people import PersonChange
from services.marketing import threads
from services.shared import activity
from services.shared.activity import NewActivity

CHANNELS: Final = ("email", "call", "sms", "meeting", "note")
DIRECTED: Final = frozenset({"email", "call", "sms"})
"""Somebody began them."""
LASTING: Final = frozenset({"call", "meeting"})
"""They take time, and end in some way."""
MAX_SUBJECT: Final = 998
MAX_BODY: Final = 100_000
MAX_EXTERNAL_ID: Final = 998
MAX_DETAILS_BYTES: Final = 32_768
MAX_SECONDS: Final = 7 * 24 * 3600
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
AHEAD: Final = timedelta(hours=1)
"""How far the clock of whoever logs may be before ours."""

_TEXTS: Final = frozenset({"subject", "body", "outcome", "details"})
_DEAL: Final = text("SELECT id FROM crm_deal_facts WHERE tenant_id = :tenant AND id = :deal")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCommunication:
    """What is to be logged."""

    channel: str
    direction: str | None = None
    person_id: UUID | None = None
    identifiers: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """Whom it was with, by kind, in place of `person_id`: an identifier nobody has creates the person."""
    source: str | None = None
    """Of a person that is created."""
    organization_id: UUID | None = None
    """Without it, the person's primary organization."""
    deal_id: UUID | None = None
    subject: str | None = None
    body: str | None = None
    outcome: str | None = None
    duration_seconds: int | None = None
    occurred_at: datetime | None = None
    """Now, unless given."""
    external_id: str | None = None
    """What another system calls it: the same of a channel is taken once."""
    thread_id: UUID | None = None
    in_reply_to: UUID | None = None
    """A message or a communication."""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def log(session: TenantSession, new: NewCommunication, *, by: Actor) -> tuple[Communication, bool]:
    """Keep a communication; return it, and whether it is new. One whose `external_id` is known is returned as it was.

    Raises:
        InvalidError: a field means nothing, or names a thing that is not there.
        ConflictError: the identifiers belong to several people.
    """
    _check(new.channel, new.direction, vars_of(new))
    at = _checked_time(new.occurred_at)
    external_id = normalized_id(new.channel, new.external_id)
    if external_id is not None and (known := await _known(session, new.channel, external_id)) is not None:
        return known, False
    place = await threads.place(session, thread_id=new.thread_id, in_reply_to=new.in_reply_to)
    person_id = await _person(session, new, by=by)
    organization_id = await _organization(session, new.organization_id, person_id)
    await _check_deal(session, new.deal_id)
    if person_id is None and organization_id is None and new.deal_id is None:
        raise InvalidError.of("person_id", "is needed, or person, or organization_id, or deal_id")
    row_id = new_id()
    row = await session.scalar(
        insert(Communication)
        .values(
            tenant_id=session.tenant_id,
            id=row_id,
            channel=new.channel,
            direction=new.direction,
            person_id=person_id,
            organization_id=organization_id,
            deal_id=new.deal_id,
            subject=new.subject,
            body=new.body,
            outcome=new.outcome,
            duration_seconds=new.duration_seconds,
            occurred_at=at,
            external_id=external_id,
            thread_id=place.thread_id or row_id,
            message_id=place.message.id if place.message else None,
            details=dict(new.details),
            created_by=by.name,
        )
        .on_conflict_do_nothing()
        .returning(Communication)
    )
    if row is None:  # another request has just logged the same
        known = await _known(session, new.channel, external_id or "")
        if known is None:
            raise NotFoundError("The communication was deleted meanwhile.")
        return known, False
    await _logged(session, row, place.message, by=by)
    return row, True


async def get(session: TenantSession, communication_id: UUID, *, lock: bool = False) -> Communication:
    """Return a communication.

    Raises:
        NotFoundError: no such communication in this tenant.
    """
    row = await session.get(
        Communication, (session.tenant_id, communication_id), with_for_update=lock or None, populate_existing=True
    )
    if row is None:
        raise NotFoundError("No such communication.")
    return row


async def update(
    session: TenantSession, communication_id: UUID, fields: Mapping[str, Any], *, by: Actor
) -> Communication:
    """Change a communication: `direction`, `organization_id`, `deal_id`, what it says, how it ended, and when it was.

    Raises:
        NotFoundError: no such communication in this tenant.
        InvalidError: a field means nothing, or names a thing that is not there.
    """
    row = await get(session, communication_id, lock=True)
    changes = {name: (getattr(row, name), value) for name, value in fields.items() if getattr(row, name) != value}
    if not changes:
        return row
    after = {name: getattr(row, name) for name in _CHECKED} | dict(fields)
    _check(row.channel, after["direction"], after)
    if "occurred_at" in changes:
        _checked_time(fields["occurred_at"])
    if "organization_id" in changes:
        if fields["organization_id"] is not None:
            await _organization(session, fields["organization_id"], None)
        elif row.person_id is None and after.get("deal_id", row.deal_id) is None:
            raise InvalidError.of("organization_id", "cannot be taken away: the communication is with nobody else")
    if "deal_id" in changes:
        await _check_deal(session, fields["deal_id"])
        if (
            fields["deal_id"] is None
            and row.person_id is None
            and after.get("organization_id", row.organization_id) is None
        ):
            raise InvalidError.of("deal_id", "cannot be taken away: the communication is with nobody else")
    for name, (_, value) in changes.items():
        setattr(row, name, value)
        attribute_state.flag_modified(row, name)
    row.updated_at = func.now()
    await session.flush()
    await session.refresh(row)
    await activity.record(
        session,
        by=by,
        subject_type="communication",
        subject_id=row.id,
        type=COMMUNICATION_UPDATED,
        changes={
            name: (None, None) if name in _TEXTS else (_shown(before), _shown(after))
            for name, (before, after) in changes.items()
        },
    )
    await publish(
        session, [_event(COMMUNICATION_UPDATED, row, properties=_properties(row) | {"fields": sorted(changes)})]
    )
    return row


async def delete(session: TenantSession, communication_id: UUID, *, by: Actor) -> None:
    """Delete a communication; what else is in its thread stays.

    Raises:
        NotFoundError: no such communication in this tenant.
    """
    row = await get(session, communication_id, lock=True)
    await session.delete(row)
    await session.flush()
    await activity.record(
        session,
        by=by,
        subject_type="communication",
        subject_id=row.id,
        type=COMMUNICATION_DELETED,
        changes={"channel": (row.channel, None)},
    )
    await publish(session, [_event(COMMUNICATION_DELETED, row, properties=_properties(row))])


def normalized_id(channel: str, given: str | None) -> str | None:
    """Return another system's id as it is kept: the `Message-ID` of a mail without its angle brackets."""
    if given is None:
        return None
    name = given.strip()
    if channel == "email":
        name = name.removeprefix("<").removesuffix(">")
    if not name:
        raise InvalidError.of("external_id", "must not be empty")
    return name


_CHECKED: Final = ("direction", "subject", "body", "outcome", "duration_seconds", "details")


def vars_of(new: NewCommunication) -> dict[str, Any]:
    """Return the fields whose meaning depends on the channel."""
    return {name: getattr(new, name) for name in _CHECKED}


def _check(channel: str, direction: str | None, fields: Mapping[str, Any]) -> None:
    if channel in DIRECTED and direction is None:
        raise InvalidError.of("direction", f"is needed for {channel}: in or out")
    if channel == "note" and direction is not None:
        raise InvalidError.of("direction", "a note has none")
    if channel == "note" and not (fields["body"] or "").strip():
        raise InvalidError.of("body", "a note needs a text")
    if channel not in LASTING:
        for name in ("outcome", "duration_seconds"):
            if fields[name] is not None:
                raise InvalidError.of(name, "only calls and meetings have one")
    if len(json.dumps(fields["details"]).encode()) > MAX_DETAILS_BYTES:
        raise InvalidError.of("details", f"must not exceed {MAX_DETAILS_BYTES} bytes as JSON")


def _checked_time(at: datetime | None) -> datetime:
    now = datetime.now(UTC)
    if at is None:
        return now
    if at > now + AHEAD:
        raise InvalidError.of("occurred_at", "must not be more than an hour in the future")
    if at < EARLIEST:
        raise InvalidError.of("occurred_at", "must not be before 1970")
    return at


async def _known(session: TenantSession, channel: str, external_id: str) -> Communication | None:
    return await session.scalar(
        select(Communication)
        .where(
            Communication.tenant_id == session.tenant_id,
            Communication.channel == channel,
            Communication.external_id == external_id,
        )
        .execution_options(populate_existing=True)
    )


async def _person(session: TenantSession, new: NewCommunication, *, by: Actor) -> UUID | None:
    if new.person_id is not None:
        try:
            return (await people.locked(session, new.person_id)).id
        except NotFoundError as error:
            raise InvalidError.of("person_id", "there is no such person") from error
    if not any(new.identifiers.values()):
        return None
    change = PersonChange(identifiers=new.identifiers, fields={} if new.source is None else {"source": new.source})
    person, _ = await people.upsert(session, change, by=by, keep_shown=True)
    return person.id


async def _organization(session: TenantSession, organization_id: UUID | None, person_id: UUID | None) -> UUID | None:
    """Return the organization, locked against deletion: the one named, or else the person's primary one."""
    if organization_id is not None:
        found = await session.get(
            Organization, (session.tenant_id, organization_id), with_for_update={"read": True, "key_share": True}
        )
        if found is None:
            raise InvalidError.of("organization_id", "there is no such organization")
        return found.id
    return None if person_id is None else await threads.primary_organization(session, person_id)


async def _check_deal(session: TenantSession, deal_id: UUID | None) -> None:
    """Check that there is such a deal; should it go meanwhile, the foreign key refuses the row."""
    if deal_id is not None:
        values = {"tenant": session.tenant_id, "deal": deal_id}
        if (await session.execute(_DEAL, values)).first() is None:
            raise InvalidError.of("deal_id", "there is no such deal")


async def _logged(
    session: TenantSession, row: Communication, answered: "threads.Answered | None", *, by: Actor
) -> None:
    told = {name: (None, value) for name, value in _properties(row).items() if name != "communication_id"}
    entries = [NewActivity("communication", row.id, COMMUNICATION_LOGGED, told)]
    if row.organization_id is not None:
        # a person's timeline reads the communications themselves; an organization's history is its log
        ours = {"communication_id": (None, str(row.id)), "channel": (None, row.channel)}
        entries.append(NewActivity("organization", row.organization_id, COMMUNICATION_LOGGED, ours))
    await activity.record_all(session, entries, by=by)
    properties = _properties(row)
    if answered is not None:
        properties |= {
            name: str(value)
            for name in ("campaign_id", "enrollment_id")
            if (value := getattr(answered, name)) is not None
        }
    await publish(session, [_event(COMMUNICATION_LOGGED, row, properties=properties)])


def _event(event_type: str, row: Communication, *, properties: Mapping[str, Any]) -> NewEvent:
    return NewEvent(
        event_type,
        row.id,
        subject_type="communication",
        person_id=row.person_id,
        properties=properties,
        occurred_at=row.occurred_at if event_type == COMMUNICATION_LOGGED else None,
    )


def _properties(row: Communication) -> dict[str, Any]:
    named = {
        "communication_id": row.id,
        "channel": row.channel,
        "direction": row.direction,
        "organization_id": row.organization_id,
        "deal_id": row.deal_id,
        "thread_id": row.thread_id,
        "message_id": row.message_id,
        "duration_seconds": row.duration_seconds,
    }
    return {name: _shown(value) for name, value in named.items() if value is not None}


def _shown(value: object) -> Any:  # noqa: ANN401 - a JSON value
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
