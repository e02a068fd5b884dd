"""Where people stand on each channel and topic. The present is in `consent`, the ledger of changes in `activity`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from contracts.events import PERSON_SUBSCRIBED, PERSON_UNSUBSCRIBED
from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError, NotFoundError
from models import Consent, Person
from services.events.publish import NewEvent, publish
from services.identity import lifecycle
from services.shared import activity

Channel = Literal["email", "sms", "push", "social"]
Status = Literal["opted_in", "opted_out"]

_TOPIC: Final = re.compile(r"[a-z0-9][a-z0-9_\-]{0,62}", re.ASCII)
_EVENTS: Final[dict[str, str]] = {"opted_in": PERSON_SUBSCRIBED, "opted_out": PERSON_UNSUBSCRIBED}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person chose for one channel and topic, and where (`signup_form`, `unsubscribe_link`)."""

    channel: Channel
    topic: str
    status: Status
    source: str | None = None


def check(choices: Sequence[Choice]) -> None:
    """Check choices as a caller gave them, in the field `consent`.

    Raises:
        InvalidError: a topic is not a key, or a channel and topic appear twice.
    """
    seen: set[tuple[str, str]] = set()
    problems: list[FieldProblem] = []
    for number, choice in enumerate(choices):
        if _TOPIC.fullmatch(choice.topic) is None:
            reason = "must be lower case letters, digits, _ and -, at most 63"
            problems.append(FieldProblem(f"consent.{number}.topic", reason))
        if (choice.channel, choice.topic) in seen:
            problems.append(FieldProblem(f"consent.{number}", "names a channel and topic that an item before it has"))
        seen.add((choice.channel, choice.topic))
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)


async def set_status(
    session: TenantSession,
    person_id: UUID,
    *,
    channel: Channel,
    topic: str,
    status: Status,
    source: str | None,
    by: Actor,
) -> bool:
    """Set one choice, bring the stage in line with it, and return whether that changed anything.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    locked = select(Person.id).where(Person.tenant_id == session.tenant_id, Person.id == person_id)
    if await session.scalar(locked.with_for_update(key_share=True)) is None:
        raise NotFoundError("No such person.")
    changed = await apply(session, person_id, [Choice(channel, topic, status, source)], by=by)
    if changed:
        await lifecycle.recompute(session, [person_id])
    return changed


async def apply(session: TenantSession, person_id: UUID, choices: Sequence[Choice], *, by: Actor) -> bool:
    """Write those choices that differ from what stands; log them and publish them. Return whether any did.

    The caller holds the person's row locked, and recomputes the stage after.
    """
    if not choices:
        return False
    standing = {
        (row.channel, row.topic): {"status": row.status, "source": row.source}
        for row in await session.execute(
            select(Consent.channel, Consent.topic, Consent.status, Consent.source).where(
                Consent.tenant_id == session.tenant_id, Consent.person_id == person_id
            )
        )
    }
    changed = [
        choice
        for choice in choices
        if standing.get((choice.channel, choice.topic), {"status": None})["status"] != choice.status
    ]
    if not changed:
        return False
    upsert = insert(Consent)
    await session.execute(
        upsert.on_conflict_do_update(
            index_elements=[Consent.tenant_id, Consent.person_id, Consent.channel, Consent.topic],
            set_={"status": upsert.excluded.status, "source": upsert.excluded.source, "changed_at": func.now()},
        ),
        [
            {
                "tenant_id": session.tenant_id,
                "person_id": person_id,
                "channel": choice.channel,
                "topic": choice.topic,
                "status": choice.status,
                "source": choice.source,
            }
            for choice in changed
        ],
    )
    await activity.record(
        session,
        by=by,
        subject_type="person",
        subject_id=person_id,
        type="person.consent_changed",
        changes={
            f"{choice.channel}:{choice.topic}": (
                standing.get((choice.channel, choice.topic)),
                {"status": choice.status, "source": choice.source},
            )
            for choice in changed
        },
    )
    await publish(
        session,
        [
            NewEvent(_EVENTS[choice.status], person_id, properties={"channel": choice.channel, "topic": choice.topic})
            for choice in changed
        ],
    )
    return True
