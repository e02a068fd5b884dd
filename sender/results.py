"""What became of messages, written in batches, and what becomes of their page with the last one.

A mailbox that does not exist is a bounce, as if it had been reported later: it suppresses the address and is an event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from core.database import Database
from integrations.email.port import Delivery, Outcome
from services.marketing import feedback
from services.marketing.feedback import Reaction

_MAX_TEXT: Final = 500
_STATUS: Final = {
    Outcome.SENT: "sent",
    Outcome.FAILED: "failed",
    Outcome.BOUNCED: "bounced",
    Outcome.RETRY: "queued",
    Outcome.IN_DOUBT: "in_doubt",
}

# A message in doubt whose answer turns up after all may still be settled, but is never queued again. Of somebody who
# was erased meanwhile nothing is written: an answer may quote the address. Posts and test copies are of nobody.
_RECORD: Final = """
    UPDATE message SET status = r.status, reason = r.reason, provider_id = r.provider_id, sent_at = r.sent_at
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
         AS r(id, status, reason, provider_id, sent_at)
    WHERE message.tenant_id = $1 AND message.id = r.id
      AND (message.person_id IS NOT NULL OR message.channel = 'social'
        OR left(message.dedupe_key, 5) = 'test:' AND message.address IS NOT NULL)
      AND (message.status = 'queued' OR message.status = 'in_doubt' AND r.status <> 'queued')
"""
_END: Final = """
    UPDATE message_page SET lease_owner = NULL, leased_until = NULL, attempts = attempts + {attempts},
        finished_at = CASE WHEN {finished} THEN now() END, shown = CASE WHEN NOT {finished} THEN shown END,
        ready_at = CASE WHEN held_for = 'cancel' THEN ready_at
                        ELSE coalesce({ready_at}, now() + {pause}, ready_at) END
    WHERE tenant_id = $1 AND id = {page} AND lease_owner = {owner}
"""
_END_ALONE: Final = _END.format(
    page="$2", owner="$3", finished="$4", pause="$5::interval", attempts="$6::int", ready_at="$7::timestamptz"
)
_RECORD_AND_END: Final = f"WITH recorded AS ({_RECORD})" + _END.format(
    page="$7", owner="$8", finished="$9", pause="$10::interval", attempts="$11::int", ready_at="$12::timestamptz"
)
_EXCLUDE_ALL: Final = """
    WITH held AS (
        UPDATE message_page SET lease_owner = NULL, leased_until = NULL, finished_at = now(), shown = NULL
        WHERE tenant_id = $1 AND id = $2 AND lease_owner = $3
        RETURNING id
    )
    UPDATE message SET status = 'excluded', reason = $4
    FROM held WHERE message.tenant_id = $1 AND message.page_id = held.id AND message.status = 'queued'
"""
_ALL_IN_DOUBT: Final = """
    UPDATE message SET status = 'in_doubt', reason = $3
    WHERE tenant_id = $1 AND page_id = $2 AND status = 'queued'
"""


@dataclass(slots=True)  # as `Mail`
class Result:
    """What to write about one message."""

    id: UUID
    status: str
    reason: str | None = None
    provider_id: str | None = None
    sent_at: datetime | None = None

    @classmethod
    def of(cls, delivery: Delivery) -> "Result":
        """Return what to write about a delivery."""
        sent_at = delivery.at if delivery.outcome is Outcome.SENT else None
        status = _STATUS[delivery.outcome]
        return cls(delivery.id, status, _storable(delivery.reason), _storable(delivery.provider_id), sent_at)


@dataclass(frozen=True, slots=True)
class PageEnd:
    """What becomes of the page: finished, or free again."""

    finished: bool
    pause: timedelta | None = None
    """For how long it rests."""
    ready_at: datetime | None = None
    """When it comes again; without this and a pause at once, where it stood in line."""
    put_off: bool = False
    """Some of it was refused for now: counts as an attempt."""


async def record(database: Database, tenant_id: UUID, results: Sequence[Result]) -> None:
    """Write results."""
    results = await _without_bounces(database, tenant_id, results)
    if results:
        async with database.hot(tenant_id) as connection:
            await connection.execute(_RECORD, tenant_id, *_columns(results))


async def record_and_end(
    database: Database, tenant_id: UUID, results: Sequence[Result], *, page_id: UUID, owner: str, end: PageEnd
) -> None:
    """Write the last results and end the page, in one statement; a page no longer held is left as it is.

    Bounces are written before it: a sender that dies in between has nothing of them to send again.
    """
    results = await _without_bounces(database, tenant_id, results)
    ending = (page_id, owner, end.finished, end.pause, int(end.put_off), end.ready_at)
    async with database.hot(tenant_id) as connection:
        if results:
            await connection.execute(_RECORD_AND_END, tenant_id, *_columns(results), *ending)
        else:
            await connection.execute(_END_ALONE, tenant_id, *ending)


async def exclude_all(database: Database, tenant_id: UUID, *, page_id: UUID, owner: str, reason: str) -> int:
    """Exclude what is still queued of a page that this sender holds, and finish it, in one statement; say how many."""
    async with database.hot(tenant_id) as connection:
        done = await connection.execute(_EXCLUDE_ALL, tenant_id, page_id, owner, reason)
    return int(done.rpartition(" ")[2])


async def doubt_all(database: Database, tenant_id: UUID, page_id: UUID, reason: str) -> None:
    """Hold every message of a page of which nothing is known."""
    async with database.hot(tenant_id) as connection:
        await connection.execute(_ALL_IN_DOUBT, tenant_id, page_id, reason)


async def _without_bounces(database: Database, tenant_id: UUID, results: Sequence[Result]) -> Sequence[Result]:
    """Write those of the results that are bounces; return the others."""
    bounced = [result for result in results if result.status == _STATUS[Outcome.BOUNCED]]
    if not bounced:
        return results
    async with database.tenant(tenant_id) as session:
        await feedback.react(session, [Reaction(result.id, "hard_bounce", result.reason) for result in bounced])
    return [result for result in results if result.status != _STATUS[Outcome.BOUNCED]]


def _storable(text: str | None) -> str | None:
    """Return a server's words without what the store cannot hold: it may say anything."""
    if text is None or text.isprintable():
        return text and text[:_MAX_TEXT]
    return "".join(character if character.isprintable() else " " for character in text)[:_MAX_TEXT]


def _columns(results: Sequence[Result]) -> tuple[list[object], ...]:
    return (
        [result.id for result in results],
        [result.status for result in results],
        [result.reason for result in results],
        [result.provider_id for result in results],
        [result.sent_at for result in results],
    )
