"""Test copies: what is about to be sent, sent to a few people who look at it first.

They are of nobody: a copy belongs to no person, campaign or count, and its links do nothing. What it shows a person's
values of is in its dedupe key, `test:{request}:{number}:{shown as}:{recipient}`, each of the last two perhaps empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import insert, select

from core.database import TenantSession
from core.errors import InvalidError
from core.ids import new_id
from core.wake import MESSAGE_CHANNEL
from models import Device, Message, MessagePage, Person, PersonIdentifier, Suppression, TemplateVersion
from services.identity import aliases, normalize
from services.marketing.queueing import TRANSACTIONAL

PREFIX: Final = "test:"
"""Begins the dedupe keys of copies."""
MARK: Final = "[Test] "
"""Begins what a copy says: its subject, or where there is none its text."""
MOST: Final = 10
"""Recipients of one request."""

_KINDS: Final = {"email": "email", "sms": "phone"}


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets copies."""

    address: str
    person_id: UUID | None = None
    """Who has it, where that is known."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy as it was queued."""

    id: UUID
    address: str
    variant: int | None
    status: str
    """`queued`, or `excluded` for what may not be sent there at all."""
    reason: str | None


def shown_as(dedupe_key: str) -> UUID | None:
    """Return whose values a copy shows; None where it shows nobody's."""
    person = dedupe_key.split(":")[3]
    return UUID(person) if person else None


async def recipients(
    session: TenantSession, channel: str, *, to: Sequence[str] | None, person_ids: Sequence[UUID] | None
) -> list[Recipient]:
    """Return whom copies go to: addresses, or people.

    Raises:
        InvalidError: both or neither are given, they are more than `MOST`, or one cannot be reached on the channel.
    """
    if channel == "social":
        raise InvalidError.of("to", "a post is public: nobody can be sent a copy of it")
    if (to is None) == (person_ids is None):
        raise InvalidError.of("to", "say where to: either to or person_ids")
    field, given = ("to", to) if to is not None else ("person_ids", person_ids or ())
    if not given:
        raise InvalidError.of(field, "is empty")
    if len(given) > MOST:
        raise InvalidError.of(field, f"at most {MOST} may get a copy")
    found = await _by_address(session, channel, to) if to is not None else await _people(session, channel, person_ids)
    return list({each.address: each for each in found}.values())


async def send(
    session: TenantSession,
    channel: str,
    versions: Sequence[tuple[int | None, TemplateVersion]],
    to: Sequence[Recipient],
    *,
    as_person_id: UUID | None = None,
    entry: Mapping[str, Any] | None = None,
    locale: str | None = None,
) -> list[Copy]:
    """Queue a copy of each version, which may be the variant of a number, for each recipient.

    It shows the values of `as_person_id`, else those of the recipient, if that is a person, with `entry`
    for an entry event's properties, in `locale` or else in the person's. It goes at once, whatever
    consent, caps and quiet hours say, but never to a suppressed address. The caller logs it.

    Raises:
        InvalidError: there is no such person.
    """
    if as_person_id is not None:
        as_person_id = await aliases.living(session, as_person_id)
        if await session.get(Person, (session.tenant_id, as_person_id)) is None:
            raise InvalidError.of("as_person_id", "is not a person")
    addresses = [each.address for each in to]
    suppressed = set(
        await session.scalars(
            select(Suppression.address).where(
                Suppression.tenant_id == session.tenant_id,
                Suppression.channel == channel,
                Suppression.address.in_(addresses),
            )
        )
    )
    request, page_id = new_id(), new_id()
    copies: list[Copy] = []
    rows: list[dict[str, object]] = []
    for recipient in to:
        barred = recipient.address in suppressed
        for variant, version in versions:
            copy = Copy(
                id=new_id(),
                address=recipient.address,
                variant=variant,
                status="excluded" if barred else "queued",
                reason="suppressed" if barred else None,
            )
            shown = as_person_id or recipient.person_id
            rows.append(
                {
                    "tenant_id": session.tenant_id,
                    "id": copy.id,
                    "channel": channel,
                    "address": copy.address,
                    "template_version_id": version.id,
                    "dedupe_key": f"{PREFIX}{request}:{len(rows)}:{shown or ''}:{recipient.person_id or ''}",
                    "page_id": None if barred else page_id,
                    "status": copy.status,
                    "reason": copy.reason,
                    "priority": TRANSACTIONAL,
                }
            )
            copies.append(copy)
    await session.execute(insert(Message), rows)
    queued = sum(copy.status == "queued" for copy in copies)
    if queued:
        page = {"tenant_id": session.tenant_id, "id": page_id, "channel": channel, "size": queued}
        sample = {"entry": dict(entry or {}), "locale": locale} if entry or locale else None
        await session.execute(insert(MessagePage), [page | {"priority": TRANSACTIONAL, "shown": sample}])
        session.wake_after_commit(MESSAGE_CHANNEL)
    return copies


async def _by_address(session: TenantSession, channel: str, to: Sequence[str]) -> list[Recipient]:
    if channel not in _KINDS:
        raise InvalidError.of("to", "push messages go to devices: name people by person_ids")
    kind = _KINDS[channel]
    addresses = [normalize.BY_KIND[kind](text, f"to.{number}") for number, text in enumerate(to)]
    rows = await session.execute(
        select(PersonIdentifier.value, PersonIdentifier.person_id).where(
            PersonIdentifier.tenant_id == session.tenant_id,
            PersonIdentifier.kind == kind,
            PersonIdentifier.value.in_(addresses),
        )
    )
    owners = {row.value: row.person_id for row in rows}
    return [Recipient(address, owners.get(address)) for address in addresses]


async def _people(session: TenantSession, channel: str, person_ids: Sequence[UUID] | None) -> list[Recipient]:
    living = [await aliases.living(session, each) for each in person_ids or ()]
    if channel == "push":
        rows = await session.execute(
            select(Device.person_id, Device.token)
            .where(Device.tenant_id == session.tenant_id, Device.person_id.in_(living))
            .order_by(Device.seen_at, Device.id)
        )
    else:
        address = Person.email if channel == "email" else Person.phone
        rows = await session.execute(
            select(Person.id, address).where(Person.tenant_id == session.tenant_id, Person.id.in_(living))
        )
    found = {person_id: at for person_id, at in rows if at is not None}
    for number, each in enumerate(living):
        if each not in found:
            raise InvalidError.of(f"person_ids.{number}", "is nobody who can be reached on this channel")
    return [Recipient(found[each], each) for each in living]
