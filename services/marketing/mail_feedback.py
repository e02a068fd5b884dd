"""What mail providers report of messages: taken in batches, the same again changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from integrations.email.reports.port import Told
from services.identity import aliases, consent
from services.marketing import feedback
from services.marketing.feedback import Reaction

SOURCE: Final = "provider_unsubscribe"
"""Of opt-outs that a provider reports."""

# Those who are out already are left: what is told again costs one statement.
_STILL_IN: Final = text("""
    SELECT DISTINCT ON (m.person_id, v.topic) m.person_id, v.topic, m.id
    FROM message m
    JOIN template_version v ON v.tenant_id = :tenant AND v.id = m.template_version_id
    WHERE m.tenant_id = :tenant AND m.id = ANY(:ids) AND m.person_id IS NOT NULL AND m.channel = 'email'
      AND m.status IN ('queued', 'in_doubt', 'sent', 'delivered', 'bounced', 'complained')
      AND NOT EXISTS (SELECT FROM consent c
                      WHERE c.tenant_id = :tenant AND c.person_id = m.person_id AND c.channel = 'email'
                        AND c.topic = v.topic AND c.status = 'opted_out')
    ORDER BY m.person_id, v.topic, m.id
""").bindparams(bindparam("ids", type_=ARRAY(Uuid)))


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch of events."""

    recorded: int
    """Of messages of the tenant's."""
    ignored: int
    """From which nothing follows, such as opens, which we count ourselves."""
    unknown: int
    """Of no message of the tenant's."""


async def take(session: TenantSession, events: Sequence[Told], *, provider: str, by: Actor) -> Taken:
    """Take events whose origin was verified."""
    telling = [each for each in events if each.kind is not None]
    reactions = [Reaction(each.message_id, each.kind, each.reason) for each in telling if each.message_id and each.kind]
    # People before messages, as where they unsubscribe by our own links.
    out = sorted({each.message_id for each in reactions if each.kind == "unsubscribed"})
    if out:
        await _opt_out(session, out, provider=provider, by=by)
    known = await feedback.react(session, reactions)
    recorded = sum(each.message_id in known for each in reactions)
    return Taken(recorded, len(events) - len(telling), len(telling) - recorded)


async def _opt_out(session: TenantSession, message_ids: Sequence[UUID], *, provider: str, by: Actor) -> None:
    rows: Sequence[Any] = (
        await session.execute(_STILL_IN, {"tenant": session.tenant_id, "ids": list(message_ids)})
    ).all()
    for row in rows:
        evidence = {"provider": provider, "message_id": str(row.id)}
        choice = consent.Choice("email", row.topic, "opted_out", SOURCE, evidence=evidence)
        try:
            await consent.choose(session, await aliases.resolve(session, row.person_id), [choice], by=by)
        except NotFoundError:  # erased a moment ago
            continue
