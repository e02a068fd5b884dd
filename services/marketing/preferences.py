"""What a recipient can choose, by the link in a message or one that a tenant shows: the preference centre."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import exists, select

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from core.tokens import NO_MESSAGE, ConsentRef
from models import Consent, Person, PersonIdentifier, Template, TemplateVersion, Tenant, Topic
from models.identity import CHANNELS
from services.identity import aliases, consent, people
from services.identity.topics import ALL
from services.marketing import feedback

UNSUBSCRIBE_LINK: Final = "unsubscribe_link"
PREFERENCES_LINK: Final = "preferences_link"
MAX_TOPICS: Final = 200
"""How many topics a page offers on a channel, beside those that the person chose."""

Pair = tuple[str, str]
"""Channel and topic."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A topic on a channel, and where the person stands."""

    channel: str
    topic: str
    name: str
    description: str | None
    wording: str | None
    """What the person agrees to."""
    status: str | None
    """None: never chosen, or overridden by a global opt-out."""

    @property
    def wanted(self) -> bool:
        """Whether it is chosen, confirmed or not."""
        return self.status in {"opted_in", "pending"}


@dataclass(frozen=True, slots=True)
class Choices:
    """What a recipient is offered."""

    tenant_name: str
    channels: Mapping[str, Sequence[Offer]]
    """The topics of each channel on which the person can be reached."""
    opted_out_of_all: bool
    """On every one of these channels."""

    @property
    def offers(self) -> list[Offer]:
        """All of them."""
        return [offer for offered in self.channels.values() for offer in offered]


@dataclass(frozen=True, slots=True)
class Visit:
    """The request by which a recipient chooses, for the record."""

    evidence: Mapping[str, Any]
    request_id: str | None


async def topic_of(session: TenantSession, ref: ConsentRef) -> tuple[str, str]:
    """Return the tenant's name and that of the message's topic.

    Raises:
        NotFoundError: the person is gone.
    """
    await people.get(session, ref.person_id)
    name = await session.scalar(select(Topic.name).where(Topic.tenant_id == session.tenant_id, Topic.key == ref.topic))
    return await _tenant_name(session), name or ref.topic


async def choices(session: TenantSession, ref: ConsentRef) -> Choices:
    """Return the topics offered to the person: the public ones, those in use without definition, and those chosen.

    Raises:
        NotFoundError: the person is gone.
    """
    person = await people.get(session, ref.person_id)
    standing: dict[Pair, str] = {
        (channel, topic): status
        for channel, topic, status in await session.execute(
            select(Consent.channel, Consent.topic, Consent.status).where(
                Consent.tenant_id == session.tenant_id, Consent.person_id == person.id
            )
        )
    }
    defined = {
        topic.key: topic for topic in await session.scalars(select(Topic).where(Topic.tenant_id == session.tenant_id))
    }
    in_use = await _in_use(session)
    reachable = {ref.channel, *(channel for channel, _ in standing)}
    reachable |= {channel for channel, address in (("email", person.email), ("sms", person.phone)) if address}
    out = {channel for channel in reachable if standing.get((channel, ALL)) == "opted_out"}
    offered: dict[str, list[Offer]] = {}
    for channel in CHANNELS:
        if channel not in reachable:
            continue
        public = {key for key, topic in defined.items() if topic.public and channel in topic.channels}
        free = [topic for of, topic in in_use if of == channel and topic not in defined]
        shown = set(sorted({key for key in public if defined[key].archived_at is None}.union(free))[:MAX_TOPICS])
        shown |= {topic for (of, topic), status in standing.items() if of == channel and _kept(defined, topic, status)}
        if channel == ref.channel and ref.topic:
            shown.add(ref.topic)
        offered[channel] = _offers(channel, shown - {ALL}, defined, {} if channel in out else standing)
    return Choices(await _tenant_name(session), offered, opted_out_of_all=out == reachable)


async def unsubscribe(session: TenantSession, ref: ConsentRef, visit: Visit) -> None:
    """Opt the person out of the message's channel and topic; once is as good as twice.

    Raises:
        NotFoundError: the person is gone.
    """
    channel = cast("consent.Channel", ref.channel)
    choice = consent.Choice(channel, ref.topic, "opted_out", UNSUBSCRIBE_LINK, evidence=visit.evidence)
    await _enter(session, ref, [choice], visit)
    await _mark(session, ref)


async def unsubscribe_from_all(session: TenantSession, ref: ConsentRef, visit: Visit) -> None:
    """Opt the person out of all marketing on every channel.

    Raises:
        NotFoundError: the person is gone.
    """
    offered = await choices(session, ref)
    out = [
        consent.Choice(cast("consent.Channel", channel), ALL, "opted_out", PREFERENCES_LINK, evidence=visit.evidence)
        for channel in offered.channels
    ]
    await _enter(session, ref, out, visit)
    await _mark(session, ref)


async def choose(
    session: TenantSession, ref: ConsentRef, wanted: Collection[Pair], seen: Collection[Pair], visit: Visit
) -> None:
    """Opt the person into the topics in `wanted` and out of the others of those in `seen`: what the page showed.

    What stands already is left, and what is not offered stays as it is. Where the address was never proven to be the
    person's, an opt-in waits for confirmation if its topic asks for that.

    Raises:
        NotFoundError: the person is gone.
    """
    offered = await choices(session, ref)
    person = await people.get(session, ref.person_id)
    proof: consent.Proof = "proven" if await _verified(session, person) else "claimed"
    changed = [
        consent.Choice(
            cast("consent.Channel", offer.channel),
            offer.topic,
            "opted_out" if offer.wanted else "opted_in",
            PREFERENCES_LINK,
            evidence=visit.evidence,
            proof=proof,
        )
        for offer in offered.offers
        if (offer.channel, offer.topic) in seen and ((offer.channel, offer.topic) in wanted) != offer.wanted
    ]
    await _enter(session, ref, changed, visit)


def _kept(defined: Mapping[str, Topic], topic: str, status: str) -> bool:
    """Whether a choice once made is still shown: an opt-out of what is no longer offered need not be."""
    return status != "opted_out" or topic not in defined or defined[topic].archived_at is None


def _offers(
    channel: str, topics: Collection[str], defined: Mapping[str, Topic], standing: Mapping[Pair, str]
) -> list[Offer]:
    offers = [
        Offer(
            channel,
            key,
            topic.name if topic else key,
            topic and topic.description,
            topic and topic.wording,
            standing.get((channel, key)),
        )
        for key, topic in ((key, defined.get(key)) for key in topics)
    ]
    return sorted(offers, key=lambda offer: (offer.name.casefold(), offer.topic))


async def _in_use(session: TenantSession) -> set[Pair]:
    rows = await session.execute(
        select(Template.channel, TemplateVersion.topic)
        .join(
            Template,
            (Template.tenant_id == TemplateVersion.tenant_id) & (Template.current_version_id == TemplateVersion.id),
        )
        .where(
            Template.tenant_id == session.tenant_id,
            Template.deleted_at.is_(None),
            TemplateVersion.purpose == "marketing",
        )
        .distinct()
        .limit(MAX_TOPICS)
    )
    return {(channel, topic) for channel, topic in rows}


async def _tenant_name(session: TenantSession) -> str:
    return await session.scalar(select(Tenant.name).where(Tenant.id == session.tenant_id)) or ""


async def _verified(session: TenantSession, person: Person) -> bool:
    proven = exists().where(
        PersonIdentifier.tenant_id == session.tenant_id,
        PersonIdentifier.kind == "email",
        PersonIdentifier.value == person.email,
        PersonIdentifier.person_id == person.id,
        PersonIdentifier.verified_at.is_not(None),
    )
    return bool(await session.scalar(select(proven)))


async def _enter(session: TenantSession, ref: ConsentRef, made: Sequence[consent.Choice], visit: Visit) -> None:
    by = _actor(ref, visit)
    try:
        await consent.choose(session, await aliases.resolve(session, ref.person_id), made, by=by)
    except NotFoundError:  # merged into somebody a moment ago: the id means another now
        await consent.choose(session, await aliases.resolve(session, ref.person_id), made, by=by)


async def _mark(session: TenantSession, ref: ConsentRef) -> None:
    """Let the message know whose link was used."""
    if ref.message_id != NO_MESSAGE:
        await feedback.react(session, [feedback.Reaction(ref.message_id, "unsubscribed")])


def _actor(ref: ConsentRef, visit: Visit) -> Actor:
    """Return the message whose link was used, or the person where no message gave it out."""
    name = f"person:{ref.person_id}" if ref.message_id == NO_MESSAGE else f"message:{ref.message_id}"
    return Actor(name, visit.request_id)
