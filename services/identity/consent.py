"""Where people stand on each channel and topic: now in `consent`, and how it came to that in `consent_change`."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert_into

from contracts.events import CONSENT_REQUESTED, PERSON_SUBSCRIBED, PERSON_UNSUBSCRIBED
from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Consent, ConsentChange, Person, Topic
from services.events.publish import NewEvent, publish
from services.identity import lifecycle, topics
from services.identity.topics import ALL
from services.shared import activity

Channel = Literal["email", "sms", "push", "social"]
Chosen = Literal["opted_in", "opted_out"]
Status = Literal["opted_in", "opted_out", "pending"]
Proof = Literal["vouched", "asked", "claimed", "proven"]
"""How sure it is that an opt-in is the person's own.

`vouched`: the caller answers for it; it counts at once, but leaves a global opt-out in force. `asked`: it counts once
the person confirmed it by mail. `claimed`: whoever filled in a public form says so; it is confirmed by mail where the
topic asks for that. `proven`: by the person, at an address known to be theirs. What counts of the last two at once ends
a global opt-out of the channel.
"""

MAX_WORDING: Final = 2_000
"""Characters of what people are told."""
ASKED_AGAIN: Final = "1 hour"
"""An opt-in that waits to be confirmed is not asked for again within this time."""

_TOPIC: Final = re.compile(r"[a-z0-9][a-z0-9_\-]{0,62}", re.ASCII)
_EVENTS: Final[dict[str, str]] = {
    "opted_in": PERSON_SUBSCRIBED,
    "opted_out": PERSON_UNSUBSCRIBED,
    "pending": CONSENT_REQUESTED,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person chose for one channel and topic, and how that is known."""

    channel: Channel
    topic: str
    status: Chosen
    source: str | None = None
    """Where (`signup_form`, `unsubscribe_link`)."""
    wording: str | None = None
    """What the person was told; for an opt-in the topic's wording unless given."""
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`ip`, `user_agent`, `url` and the like, of the person's own request."""
    proof: Proof = "vouched"


@dataclass(frozen=True, slots=True)
class _Standing:
    status: str
    source: str | None
    fresh: bool
    """It was set within `ASKED_AGAIN`."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the ledger to write."""

    choice: Choice
    status: Status
    before: _Standing | None
    id: UUID = field(default_factory=new_id)

    @property
    def key(self) -> tuple[str, str]:
        return self.choice.channel, self.choice.topic

    @property
    def lifts(self) -> bool:
        """Whether it ends a global opt-out."""
        return self.choice.topic == ALL and self.status == "opted_in"

    @property
    def changes(self) -> bool:
        """Whether it is more than the same once again."""
        return self.before is None or self.before.status != self.status


def concerning(channel: ColumnElement[str] | str, topic: ColumnElement[str] | str) -> ColumnElement[bool]:
    """Return which rows of a person say whether marketing may be sent: the topic's, and a global opt-out."""
    return and_(
        Consent.channel == channel,
        Consent.topic.in_([topic, ALL]),
        or_(Consent.topic == topic, Consent.status == "opted_out"),
    )


STRICTEST: Final = case((Consent.status == "opted_out", 0), else_=1)
"""Order in which the first row of `concerning` decides."""


def strictest() -> ColumnElement[str | None]:
    """Return the status by which the rows of `concerning` decide together, null for none: no sort of two rows."""
    return case(
        (func.bool_or(Consent.status == "opted_out"), "opted_out"),
        else_=func.min(Consent.status),
    )


def check(choices: Sequence[Choice]) -> None:
    """Check choices as a caller gave them, in the field `consent`.

    Raises:
        InvalidError: a topic is not a key, a channel and topic appear twice, or what cannot be confirmed is to be.
    """
    seen: set[tuple[str, str]] = set()
    problems: list[FieldProblem] = []
    for number, choice in enumerate(choices):
        if _TOPIC.fullmatch(choice.topic) is None:
            reason = "must be lower case letters, digits, _ and -, at most 63"
            problems.append(FieldProblem(f"consent.{number}.topic", reason))
        if (choice.channel, choice.topic) in seen:
            problems.append(FieldProblem(f"consent.{number}", "names a channel and topic that an item before it has"))
        if choice.proof == "asked" and (choice.channel, choice.status) != ("email", "opted_in"):
            problems.append(FieldProblem(f"consent.{number}.confirm", "goes with an opt-in to email alone"))
        elif choice.proof == "asked" and choice.topic == ALL:
            problems.append(FieldProblem(f"consent.{number}.confirm", f"{ALL} is no topic to opt in to"))
        seen.add((choice.channel, choice.topic))
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)


async def set_status(  # noqa: PLR0913 - the parts of one choice
    session: TenantSession,
    person_id: UUID,
    *,
    channel: Channel,
    topic: str,
    status: Chosen,
    source: str | None,
    wording: str | None = None,
    evidence: Mapping[str, Any] | None = None,
    by: Actor,
) -> bool:
    """Set one choice, bring the stage in line with it, and return whether that changed anything.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    return await choose(session, person_id, [Choice(channel, topic, status, source, wording, evidence or {})], by=by)


async def choose(session: TenantSession, person_id: UUID, choices: Sequence[Choice], *, by: Actor) -> bool:
    """Lock the person, make the choices, bring the stage in line; return whether anything changed.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    await lock(session, person_id)
    changed = await apply(session, person_id, choices, by=by)
    if changed:
        await lifecycle.recompute(session, [person_id])
    return changed


async def lock(session: TenantSession, person_id: UUID) -> None:
    """Hold the person's row: consent changes one transaction after the other.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    locked = select(Person.id).where(Person.tenant_id == session.tenant_id, Person.id == person_id)
    if await session.scalar(locked.with_for_update(key_share=True)) is None:
        raise NotFoundError("No such person.")


async def apply(session: TenantSession, person_id: UUID, choices: Sequence[Choice], *, by: Actor) -> bool:
    """Write those choices that differ from what stands; enter them in the ledger, log and publish them.

    Return whether any did. A repeated opt-in with a new wording of its own is entered in the ledger alone. The caller
    holds the person's row locked, and recomputes the stage after.
    """
    if not choices:
        return False
    standing = await _standing(session, person_id)
    defined = await topics.by_key(session, {choice.topic for choice in choices if choice.status == "opted_in"})
    told = await _told(session, person_id, choices, standing)
    entries = _entries(choices, standing, defined, told)
    if not entries:
        return False
    changed = [entry for entry in entries if entry.changes]
    await _write(session, person_id, [entry for entry in entries if entry.changes or entry.status == "pending"])
    await _enter(session, person_id, entries, by)
    if changed:
        await activity.record(
            session,
            by=by,
            subject_type="person",
            subject_id=person_id,
            type="person.consent_changed",
            changes={
                ":".join(entry.key): (
                    entry.before and {"status": entry.before.status, "source": entry.before.source},
                    {"status": entry.status, "source": entry.choice.source},
                )
                for entry in changed
            },
        )
    await publish(
        session,
        [
            _event(entry, person_id)
            for entry in entries
            if (entry.changes or entry.status == "pending") and not entry.lifts
        ],
    )
    return bool(changed)


async def _standing(session: TenantSession, person_id: UUID) -> dict[tuple[str, str], _Standing]:
    rows = await session.execute(
        select(
            Consent.channel,
            Consent.topic,
            Consent.status,
            Consent.source,
            (Consent.changed_at > func.now() - text(f"interval '{ASKED_AGAIN}'")).label("fresh"),
        ).where(Consent.tenant_id == session.tenant_id, Consent.person_id == person_id)
    )
    return {(row.channel, row.topic): _Standing(row.status, row.source, row.fresh) for row in rows}


async def _told(
    session: TenantSession,
    person_id: UUID,
    choices: Sequence[Choice],
    standing: Mapping[tuple[str, str], _Standing],
) -> dict[tuple[str, str], str | None]:
    """Return the wording last entered for the opt-ins that stand already and now come with a wording of their own."""
    keys = [
        key
        for choice in choices
        if choice.status == "opted_in"
        and choice.wording is not None
        and (key := (choice.channel, choice.topic)) in standing
        and standing[key].status == "opted_in"
    ]
    if not keys:
        return {}
    rows = await session.execute(
        select(ConsentChange.channel, ConsentChange.topic, ConsentChange.wording)
        .where(
            ConsentChange.tenant_id == session.tenant_id,
            ConsentChange.person_id == person_id,
            tuple_(ConsentChange.channel, ConsentChange.topic).in_(keys),
        )
        .order_by(ConsentChange.at, ConsentChange.id)
    )
    return {(row.channel, row.topic): row.wording for row in rows}


def _entries(
    choices: Sequence[Choice],
    standing: Mapping[tuple[str, str], _Standing],
    defined: Mapping[str, Topic],
    told: Mapping[tuple[str, str], str | None],
) -> list[_Entry]:
    """Return what is to be entered in the ledger, with what follows for other topics of the channel."""
    named = {(choice.channel, choice.topic) for choice in choices}
    entries: list[_Entry] = []
    for choice in choices:
        before = standing.get((choice.channel, choice.topic))
        out_of_all = standing.get((choice.channel, ALL))
        topic = defined.get(choice.topic)
        if choice.status == "opted_in" and choice.wording is None and topic is not None:
            completed = replace(choice, wording=topic.wording)
        else:
            completed = choice
        entry = _Entry(completed, _status(choice, topic), before)
        own = choice.proof != "vouched" and choice.topic != ALL
        if _matters(entry, told, out_of_all=own and out_of_all is not None and out_of_all.status == "opted_out"):
            entries.append(entry)
        if choice.topic == ALL and choice.status == "opted_out":
            # The rest is ended too, so that nothing comes back by itself when the person chooses one topic again.
            entries += _ended(choice, standing, named, {"opted_in", "pending"})
        lifting = choice.proof in {"claimed", "proven"} and entry.status == "opted_in" and out_of_all is not None
        if lifting and (choice.channel, ALL) not in named:
            named.add((choice.channel, ALL))
            entries.append(_Entry(replace(choice, topic=ALL, wording=None), "opted_in", out_of_all))
            # Nor does what others vouched for meanwhile, which did not count.
            entries += _ended(choice, standing, named, {"opted_in"})
    return entries


def _ended(
    choice: Choice,
    standing: Mapping[tuple[str, str], _Standing],
    named: Collection[tuple[str, str]],
    statuses: Collection[str],
) -> list[_Entry]:
    """Return the ends of what else stands so on the channel."""
    return [
        _Entry(replace(choice, topic=topic, status="opted_out", wording=None), "opted_out", stood)
        for (channel, topic), stood in standing.items()
        if channel == choice.channel and stood.status in statuses and (channel, topic) not in named
    ]


def _status(choice: Choice, topic: Topic | None) -> Status:
    asks = choice.proof == "asked" or (choice.proof == "claimed" and topic is not None and topic.double_opt_in)
    return "pending" if asks and choice.status == "opted_in" and choice.channel == "email" else choice.status


def _matters(entry: _Entry, told: Mapping[tuple[str, str], str | None], *, out_of_all: bool) -> bool:
    """Whether an entry says anything new; `out_of_all`: a global opt-out is in force, which the person may now end."""
    before = None if entry.before is None else entry.before.status
    if entry.lifts:
        return before == "opted_out"
    if entry.status == "pending":
        waiting = before == "pending" and entry.before is not None and entry.before.fresh
        return not waiting and (before != "opted_in" or out_of_all)
    if entry.status == "opted_in" and before == "opted_in":
        return entry.key in told and told[entry.key] != entry.choice.wording
    return before != entry.status


async def _write(session: TenantSession, person_id: UUID, entries: Sequence[_Entry]) -> None:
    """Bring what stands in line; a global opt-out that ended leaves no row."""
    lifted = [entry.choice.channel for entry in entries if entry.lifts]
    if lifted:
        await session.execute(
            delete(Consent).where(
                Consent.tenant_id == session.tenant_id,
                Consent.person_id == person_id,
                Consent.topic == ALL,
                Consent.channel.in_(lifted),
            )
        )
    rows = [
        {
            "tenant_id": session.tenant_id,
            "person_id": person_id,
            "channel": entry.choice.channel,
            "topic": entry.choice.topic,
            "status": entry.status,
            "source": entry.choice.source,
        }
        for entry in entries
        if not entry.lifts
    ]
    if not rows:
        return
    upsert = upsert_into(Consent)
    await session.execute(
        upsert.on_conflict_do_update(
            index_elements=[Consent.tenant_id, Consent.person_id, Consent.channel, Consent.topic],
            set_={"status": upsert.excluded.status, "source": upsert.excluded.source, "changed_at": func.now()},
        ),
        rows,
    )


async def _enter(session: TenantSession, person_id: UUID, entries: Sequence[_Entry], by: Actor) -> None:
    # Not the time the transaction began: of two that waited for each other the later must be seen to be later.
    await session.execute(
        insert(ConsentChange).values(at=func.clock_timestamp()),
        [
            {
                "tenant_id": session.tenant_id,
                "id": entry.id,
                "person_id": person_id,
                "channel": entry.choice.channel,
                "topic": entry.choice.topic,
                "status": entry.status,
                "source": entry.choice.source,
                "wording": entry.choice.wording,
                "evidence": dict(entry.choice.evidence),
                "actor": by.name,
                "request_id": by.request_id,
            }
            for entry in entries
        ],
    )


def _event(entry: _Entry, person_id: UUID) -> NewEvent:
    said = {"channel": entry.choice.channel, "topic": entry.choice.topic}
    if entry.status == "pending":
        said["change_id"] = str(entry.id)
    return NewEvent(_EVENTS[entry.status], person_id, properties=said)
