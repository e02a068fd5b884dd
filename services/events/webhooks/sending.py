"""Which deliveries of an endpoint are due, and what came of them.

Of one subject's events each waits until the one before is delivered or given up; other subjects go on. Where several
subjects fail and nothing goes through, the endpoint is taken for down: it is tried by one request at a time, on the
schedule of that one, until something goes through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import Integer, Interval, Text, Uuid

from core.actor import SYSTEM
from core.database import TenantSession
from core.sealing import Seal
from models import WebhookEndpoint
from services.events.telling import AT, EVENT
from services.events.webhooks import pausing
from services.shared.retrying import GONE, PAUSES, Verdict, verdict

DOWN_AT: Final = 5
"""So many events wait for a retry, and nothing was delivered since the first of them failed: the endpoint is down."""
GIVE_UP_AFTER: Final = sum(PAUSES[:-1], timedelta())
"""An endpoint that has failed for so long, and again, is paused."""


class SupersededError(Exception):
    """Somebody else has taken over sending: what this one did is theirs to repeat."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """An endpoint whose deliveries the caller alone may note."""

    id: UUID
    url: str
    secrets: tuple[str, ...]
    batch_size: int
    fence: int


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery to make now."""

    id: UUID
    subject_id: UUID
    attempts: int
    """Before this one."""
    message: str
    """JSON."""
    trace: str | None = None
    """The span that wrote the event, where that was traced."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """A delivery that was tried, and the answer."""

    due: Due
    answer: Mapping[str, Any]


_BLOCKED: Final = text("""
    SELECT array_agg(DISTINCT d.subject_id) FILTER (WHERE d.next_at > now()) AS subjects,
           min(d.next_at) AS next_at, count(*) AS retries
    FROM webhook_delivery d
    WHERE d.tenant_id = :tenant AND d.endpoint_id = :endpoint AND d.status = 'pending' AND d.attempts > 0
""")
TOLD: Final = f"""
    CASE WHEN e.id IS NULL THEN jsonb_build_object(
      'id', d.id, 'type', d.event_type, 'timestamp', {AT.format("d.created_at")},
      'data', jsonb_build_object('endpoint_id', d.endpoint_id)
    ) ELSE {EVENT} END::text AS message
    FROM webhook_delivery d LEFT JOIN event e ON e.tenant_id = :tenant AND e.id = d.event_id
"""
"""What an endpoint is told by the deliveries `d`: the event, or of one that tries it out who asks."""
_DUE: Final = f"""
    SELECT d.id, d.subject_id, d.attempts, e.trace, {TOLD}
    WHERE d.tenant_id = :tenant AND d.endpoint_id = :endpoint AND d.status = 'pending'
"""
_TAKE: Final = text(f"""
    {_DUE} AND d.subject_id <> ALL(:blocked) ORDER BY d.position, d.id LIMIT :limit
""").bindparams(bindparam("blocked", type_=ARRAY(Uuid)))
_PROBE: Final = text(f"""
    {_DUE} AND d.attempts > 0 AND d.next_at <= now() ORDER BY d.next_at LIMIT 1
""")
_SETTLE: Final = text("""
    UPDATE webhook_delivery d
    SET status = s.status, attempts = d.attempts + 1, answer = (:answers)[s.place], attempted_at = now(),
        next_at = now() + s.pause, finished_at = CASE WHEN s.status <> 'pending' THEN now() END
    FROM unnest(:ids, :statuses, :places, :pauses) AS s(id, status, place, pause)
    WHERE d.tenant_id = :tenant AND d.id = s.id AND d.status = 'pending'
""").bindparams(
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("statuses", type_=ARRAY(Text)),
    bindparam("places", type_=ARRAY(Integer)),
    bindparam("answers", type_=ARRAY(JSONB)),
    bindparam("pauses", type_=ARRAY(Interval)),
)
# Of an endpoint that is down alone: an event that is refused by itself keeps to its own schedule.
_RETRIES: Final = """
    WITH waiting AS (
      SELECT id, count(*) OVER () AS retries FROM webhook_delivery
      WHERE tenant_id = :tenant AND endpoint_id = :endpoint AND status = 'pending' AND attempts > 0
    )
    UPDATE webhook_delivery d SET next_at = now() + :pause FROM waiting w
    WHERE d.tenant_id = :tenant AND d.id = w.id AND w.retries >= :down
"""
_AGAIN_SOON: Final = text(_RETRIES).bindparams(bindparam("pause", type_=Interval))
_HOLD: Final = text(f"{_RETRIES} AND d.next_at < now() + :pause").bindparams(bindparam("pause", type_=Interval))


def refused(answer: Mapping[str, Any]) -> bool:
    """Return whether an answer is anything but a success."""
    return verdict(answer, 1).status != "delivered"


async def exists(session: TenantSession, endpoint_id: UUID) -> bool:
    """Return whether the endpoint was not deleted."""
    found = select(WebhookEndpoint.id).where(
        WebhookEndpoint.tenant_id == session.tenant_id, WebhookEndpoint.id == endpoint_id
    )
    return await session.scalar(found) is not None


async def claim(session: TenantSession, endpoint_id: UUID, seal: Seal) -> Claimed | None:
    """Take over sending for an active endpoint; whoever did before notes nothing any more. None where it is paused."""
    rows = await session.execute(
        update(WebhookEndpoint)
        .where(
            WebhookEndpoint.tenant_id == session.tenant_id,
            WebhookEndpoint.id == endpoint_id,
            WebhookEndpoint.status == "active",
        )
        .values(fence=WebhookEndpoint.fence + 1, idle=False)
        .returning(
            WebhookEndpoint.url,
            WebhookEndpoint.secret,
            WebhookEndpoint.batch_size,
            WebhookEndpoint.fence,
            WebhookEndpoint.old_secret,
            (WebhookEndpoint.old_secret_until > func.now()).label("old_holds"),
        )
    )
    row = rows.one_or_none()
    if row is None:
        return None
    sealed = [row.secret, *([row.old_secret] if row.old_holds else [])]
    secrets = tuple(seal.open(each).decode() for each in sealed)
    return Claimed(endpoint_id, row.url, secrets, row.batch_size, row.fence)


async def take(session: TenantSession, endpoint: Claimed, *, limit: int) -> list[Due]:
    """Return deliveries that may be made now, in order."""
    keys = {"tenant": session.tenant_id, "endpoint": endpoint.id}
    waiting = (await session.execute(_BLOCKED, keys)).one()
    if waiting.retries >= DOWN_AT and await _failing(session, endpoint.id):
        rows = await session.execute(_PROBE, keys)
    else:
        rows = await session.execute(_TAKE, {**keys, "blocked": waiting.subjects or [], "limit": limit})
    return [Due(row.id, row.subject_id, row.attempts, row.message, row.trace) for row in rows]


async def _failing(session: TenantSession, endpoint_id: UUID) -> bool:
    since = select(WebhookEndpoint.failing_since).where(
        WebhookEndpoint.tenant_id == session.tenant_id, WebhookEndpoint.id == endpoint_id
    )
    return await session.scalar(since) is not None


async def settle(session: TenantSession, endpoint: Claimed, attempted: Sequence[Attempted]) -> bool:
    """Note what came of attempts; return whether the endpoint goes on.

    Raises:
        SupersededError: somebody else has taken over; nothing is noted.
    """
    judged = _judged(attempted)
    through = any(each.status == "delivered" for each in judged)
    row = (
        await session.execute(
            select(WebhookEndpoint)
            .where(WebhookEndpoint.tenant_id == session.tenant_id, WebhookEndpoint.id == endpoint.id)
            .with_for_update(read=True)  # whoever takes over, pauses or goes to sleep waits for this
            .execution_options(populate_existing=True)
        )
    ).scalar_one_or_none()
    if row is None or row.fence != endpoint.fence:
        raise SupersededError
    answers = {id(each.answer): each.answer for each in attempted}  # one request has one, whatever it told of
    places = {key: place for place, key in enumerate(answers, start=1)}
    gone = any(answer.get("status") == GONE for answer in answers.values())
    keys = {"tenant": session.tenant_id, "endpoint": endpoint.id}
    await session.execute(
        _SETTLE,
        {
            "tenant": session.tenant_id,
            "ids": [each.due.id for each in attempted],
            # an endpoint that is gone is paused: what it was not told it may be told when somebody resumes it
            "statuses": ["pending" if gone and each.status == "failed" else each.status for each in judged],
            "places": [places[id(each.answer)] for each in attempted],
            "answers": [dict(answer) for answer in answers.values()],
            "pauses": [each.pause for each in judged],
        },
    )
    if through:
        if row.failing_since is not None:
            row.failing_since = None
            # the one that went through is no longer among those that wait
            await session.execute(_AGAIN_SOON, {**keys, "down": DOWN_AT - 1, "pause": timedelta()})
    else:
        if row.failing_since is None:
            row.failing_since = await session.scalar(select(func.now()))
        pause = min((each.pause for each in judged if each.status == "pending"), default=timedelta())
        await session.execute(_HOLD, {**keys, "down": DOWN_AT, "pause": pause})
    await session.flush()
    if row.status == "active" and (gone or (not through and await _long_down(session, endpoint.id))):
        await pausing.pause(session, row, because="gone" if gone else "failing", by=SYSTEM)
    await session.flush()
    return row.status == "active"


def _judged(attempted: Sequence[Attempted]) -> list[Verdict]:
    known: dict[tuple[int, int], Verdict] = {}
    judged: list[Verdict] = []
    for each in attempted:
        key = (id(each.answer), each.due.attempts)
        if key not in known:
            known[key] = verdict(each.answer, each.due.attempts + 1)
        judged.append(known[key])
    return judged


async def _long_down(session: TenantSession, endpoint_id: UUID) -> bool:
    since = select(WebhookEndpoint.failing_since < func.now() - GIVE_UP_AFTER).where(
        WebhookEndpoint.tenant_id == session.tenant_id, WebhookEndpoint.id == endpoint_id
    )
    return await session.scalar(since) is True


async def rest(session: TenantSession, endpoint: Claimed) -> tuple[bool, datetime | None]:
    """Go to sleep if nothing is due; return whether that is so, and when the next retry falls due.

    Raises:
        SupersededError: somebody else has taken over.
    """
    fence = await session.scalar(
        select(WebhookEndpoint.fence)
        .where(WebhookEndpoint.tenant_id == session.tenant_id, WebhookEndpoint.id == endpoint.id)
        .with_for_update()
    )
    if fence != endpoint.fence:
        raise SupersededError
    if await take(session, endpoint, limit=1):
        return False, None
    await session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.tenant_id == session.tenant_id, WebhookEndpoint.id == endpoint.id)
        .values(idle=True)
    )
    waiting = (await session.execute(_BLOCKED, {"tenant": session.tenant_id, "endpoint": endpoint.id})).one()
    return True, waiting.next_at
