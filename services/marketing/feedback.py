"""What comes back after sending: deliveries, bounces, complaints and unsubscribes, whoever reports them.

Reports come late, twice and in any order, so what they lead to does not depend on it. A message's status only moves
forward: `sent`, `delivered`, `bounced` (a soft bounce before a hard one), `complained`. Each kind is an event of the
person once, except a delivery, which says nothing of the person. What suppresses an address is written with it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from contracts.events import BOUNCED, COMPLAINED, UNSUBSCRIBED
from core.database import TenantSession
from services.events.publish import NewEvent, publish

Kind = Literal["delivered", "soft_bounce", "hard_bounce", "complained", "unsubscribed"]

SOFT_BOUNCES: Final = 3
"""So many messages in a row that came back for a reason that may pass suppress their address."""
LOOKED_BACK: Final = 50
"""Messages of a person among which such a row is looked for."""
MAX_REASON: Final = 500

_SOFT: Final = "soft: "
_HARD: Final = "hard: "
_RANKS: Final = {"queued": 0, "in_doubt": 0, "sent": 0, "delivered": 1, "complained": 4}
"""How far a message has come; a message that was excluded or refused goes nowhere."""
_RANK_OF: Final[dict[Kind, int]] = {"delivered": 1, "soft_bounce": 2, "hard_bounce": 3, "complained": 4}
_STATUS_OF: Final = {1: "delivered", 2: "bounced", 3: "bounced", 4: "complained"}
_EVENT_OF: Final[dict[Kind, str]] = {
    "soft_bounce": BOUNCED,
    "hard_bounce": BOUNCED,
    "complained": COMPLAINED,
    "unsubscribed": UNSUBSCRIBED,
}

# In the order of ids, so that two reports of the same messages wait for one another instead of locking crosswise.
_LOCK: Final = text("""
    SELECT id, status, reason, person_id, channel, address, campaign_id, enrollment_id
    FROM message WHERE tenant_id = :tenant AND id = ANY(:ids)
    ORDER BY id FOR NO KEY UPDATE
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)))
_MOVE: Final = text("""
    UPDATE message SET status = r.status, reason = r.reason, sent_at = coalesce(message.sent_at, now()),
        unsubscribed_at = CASE WHEN r.unsubscribed THEN coalesce(unsubscribed_at, now()) ELSE unsubscribed_at END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]),
                CAST(:unsubscribed AS boolean[])) AS r(id, status, reason, unsubscribed)
    WHERE message.tenant_id = :tenant AND message.id = r.id
""")
# An address that bounced and then complained did complain; one put there by hand keeps its reason.
_SUPPRESS: Final = text("""
    INSERT INTO suppression (tenant_id, channel, address, reason)
    SELECT :tenant AS tenant_id, s.channel, s.address, s.reason
    FROM unnest(CAST(:channels AS text[]), CAST(:addresses AS text[]), CAST(:reasons AS text[]))
         AS s(channel, address, reason)
    ORDER BY s.channel, s.address
    ON CONFLICT (tenant_id, channel, address) DO UPDATE SET reason = excluded.reason
    WHERE suppression.reason = 'bounced' AND excluded.reason = 'complained'
""")
# A row anywhere among the last messages counts, not only at their end: a report may be of an older one.
_SOFT_ROWS: Final = text(f"""
    SELECT DISTINCT w.channel, w.address
    FROM unnest(CAST(:people AS uuid[]), CAST(:channels AS text[]), CAST(:addresses AS text[]))
         AS r(person_id, channel, address)
    CROSS JOIN LATERAL (
        SELECT m.channel, m.address,
               sum(CASE WHEN m.status = 'bounced' AND starts_with(m.reason, '{_SOFT}') THEN 1 ELSE 0 END)
                   OVER (ORDER BY m.id ROWS {SOFT_BOUNCES - 1} PRECEDING) AS soft
        FROM (SELECT id, channel, address, status, reason FROM message
              WHERE tenant_id = :tenant AND person_id = r.person_id ORDER BY id DESC LIMIT {LOOKED_BACK}) AS m
        WHERE m.channel = r.channel AND m.address = r.address
          AND m.status NOT IN ('queued', 'excluded', 'failed')
    ) AS w
    WHERE w.soft = {SOFT_BOUNCES}
""")  # noqa: S608 - the values are constants of ours
# A provider's id has no index, so that recording it stays cheap: messages are found by whom they went to.
_BY_PROVIDER_ID: Final = text("""
    SELECT r.number, m.id
    FROM unnest(CAST(:provider_ids AS text[]), CAST(:addresses AS text[])) WITH ORDINALITY
         AS r(provider_id, address, number)
    JOIN person_identifier AS i ON i.tenant_id = :tenant AND i.kind = :kind AND i.value = r.address
    JOIN message AS m ON m.tenant_id = :tenant AND m.person_id = i.person_id AND m.provider_id = r.provider_id
        AND m.channel = :channel
""").bindparams(bindparam("kind", type_=Text), bindparam("channel", type_=Text))


@dataclass(frozen=True, slots=True)
class Reaction:
    """One report about one message."""

    message_id: UUID
    kind: Kind
    reason: str | None = None
    """What the reporter said; shown with the message and its event."""


@dataclass(frozen=True, slots=True)
class _Move:
    id: UUID
    status: str
    reason: str | None
    unsubscribed: bool


async def react(session: TenantSession, reactions: Iterable[Reaction]) -> set[UUID]:
    """Take reports; return the messages that they are about and that exist. What was known before changes nothing."""
    told: dict[UUID, dict[Kind, Reaction]] = {}
    for reaction in reactions:
        told.setdefault(reaction.message_id, {}).setdefault(reaction.kind, reaction)
    if not told:
        return set()
    rows = (await session.execute(_LOCK, {"tenant": session.tenant_id, "ids": sorted(told)})).all()
    rows = [row for row in rows if _rank(row.status, row.reason) is not None]
    await _move(session, [_moved(row, told[row.id]) for row in rows])
    await publish(session, [event for row in rows for event in _events(row, told[row.id])])
    reachable = [row for row in rows if row.address is not None]
    await _suppress(session, [found for row in reachable for found in _suppressions(row, told[row.id])])
    await _suppress_soft(session, [row for row in reachable if row.person_id and "soft_bounce" in told[row.id]])
    return {row.id for row in rows}


async def by_provider_id(
    session: TenantSession, channel: Literal["email", "sms"], wanted: Sequence[tuple[str, str]]
) -> list[UUID | None]:
    """Return the messages of a channel that have these provider ids and went to these (normalized) addresses."""
    values = {
        "tenant": session.tenant_id,
        "channel": channel,
        "kind": "email" if channel == "email" else "phone",
        "provider_ids": [provider_id for provider_id, _ in wanted],
        "addresses": [address for _, address in wanted],
    }
    rows = await session.execute(_BY_PROVIDER_ID, values)
    found: dict[int, UUID] = {row.number: row.id for row in rows}
    return [found.get(number) for number in range(1, len(wanted) + 1)]


def _rank(status: str, reason: str | None) -> int | None:
    if status == "bounced":
        return _RANK_OF["soft_bounce" if (reason or "").startswith(_SOFT) else "hard_bounce"]
    return _RANKS.get(status)


def _moved(row: Any, told: dict[Kind, Reaction]) -> _Move:  # noqa: ANN401 - a row of the store
    """Return what becomes of a message; a recipient who acts on it has got it."""
    rank = _rank(row.status, row.reason) or 0
    furthest = max(told, key=lambda kind: _RANK_OF.get(kind, 1))
    reached = _RANK_OF.get(furthest, 1)
    unsubscribed = "unsubscribed" in told
    if reached <= rank:
        return _Move(row.id, row.status, row.reason, unsubscribed)
    reason = _reason(told[furthest])
    if row.person_id is None:  # a server's words may hold the address of who was erased
        reason = _SOFT if furthest == "soft_bounce" else None
    return _Move(row.id, _STATUS_OF[reached], reason, unsubscribed)


def _reason(reaction: Reaction) -> str | None:
    said = storable(reaction.reason)
    if reaction.kind == "soft_bounce":
        return _SOFT + (said or "")
    if reaction.kind == "hard_bounce":
        return _HARD + (said or "")
    return said


def storable(said: str | None) -> str | None:
    """Return a reporter's words without what the store cannot hold: they may be anything."""
    if said is None:
        return None
    return "".join(character if character.isprintable() else " " for character in said).strip()[:MAX_REASON]


def _events(row: Any, told: dict[Kind, Reaction]) -> list[NewEvent]:  # noqa: ANN401 - as above
    if row.person_id is None:
        return []
    about = {"message_id": row.id, "campaign_id": row.campaign_id, "enrollment_id": row.enrollment_id}
    named = {name: str(value) for name, value in about.items() if value is not None}
    events: list[NewEvent] = []
    for kind, reaction in told.items():
        if kind not in _EVENT_OF:
            continue
        properties: dict[str, Any] = dict(named)
        if kind in {"soft_bounce", "hard_bounce"}:
            properties["kind"] = "soft" if kind == "soft_bounce" else "hard"
        if said := storable(reaction.reason):
            properties["reason"] = said
        events.append(
            NewEvent(
                row.channel + _EVENT_OF[kind],
                row.person_id,
                properties=properties,
                idempotency_key=f"message:{row.id}:{kind}",
            )
        )
    return events


def _suppressions(row: Any, told: dict[Kind, Reaction]) -> list[tuple[str, str, str]]:  # noqa: ANN401 - as above
    if "complained" in told:
        return [(row.channel, row.address, "complained")]
    if "hard_bounce" in told:
        return [(row.channel, row.address, "bounced")]
    return []


async def _move(session: TenantSession, moves: Sequence[_Move]) -> None:
    if not moves:
        return
    values = {
        "tenant": session.tenant_id,
        "ids": [move.id for move in moves],
        "statuses": [move.status for move in moves],
        "reasons": [move.reason for move in moves],
        "unsubscribed": [move.unsubscribed for move in moves],
    }
    await session.execute(_MOVE, values)


async def _suppress(session: TenantSession, found: Sequence[tuple[str, str, str]]) -> None:
    strictest: dict[tuple[str, str], str] = {}
    for channel, address, reason in found:
        if strictest.get((channel, address)) != "complained":
            strictest[channel, address] = reason
    if not strictest:
        return
    values = {
        "tenant": session.tenant_id,
        "channels": [channel for channel, _ in strictest],
        "addresses": [address for _, address in strictest],
        "reasons": list(strictest.values()),
    }
    await session.execute(_SUPPRESS, values)


async def _suppress_soft(session: TenantSession, rows: Sequence[Any]) -> None:
    if not rows:
        return
    values = {
        "tenant": session.tenant_id,
        "people": [row.person_id for row in rows],
        "channels": [row.channel for row in rows],
        "addresses": [row.address for row in rows],
    }
    found = (await session.execute(_SOFT_ROWS, values)).all()
    await _suppress(session, [(channel, address, "bounced") for channel, address in found])
