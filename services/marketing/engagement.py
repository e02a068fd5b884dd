"""What recipients do with a message: opens and clicks, counted where they happen, in one statement each.

The first of a kind is also an event of the person; the rest only count, for whoever has the mail can repeat them at
will.
"""

from typing import TYPE_CHECKING, Any, Final

from contracts.events import CLICKED, OPENED
from core.tokens import Click, MessageRef

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

# Whoever opens a mail has got it: that settles the doubt. Of somebody erased only the count is kept.
_COUNT: Final = """
    WITH counted AS (
        UPDATE message
        SET {count} = {count} + 1, {first} = coalesce({first}, now()),
            status = CASE status WHEN 'in_doubt' THEN 'delivered' ELSE status END
        WHERE tenant_id = $1 AND id = $2
        RETURNING id, person_id, channel, template_version_id, enrollment_id, campaign_id, {count} AS count
    )
    INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties)
    SELECT $1, tl_uuid7(), channel || $3, person_id, person_id, jsonb_strip_nulls(jsonb_build_object(
        'message_id', id, 'template_version_id', template_version_id, 'enrollment_id', enrollment_id,
        'campaign_id', campaign_id, 'url', $4::text))
    FROM counted WHERE count = 1 AND person_id IS NOT NULL
    RETURNING id
"""
_OPEN: Final = _COUNT.format(count="opens", first="opened_at")
_CLICK: Final = _COUNT.format(count="clicks", first="clicked_at")


async def opened(connection: "PoolConnectionProxy[Any]", ref: MessageRef) -> bool:
    """Count an open; return whether it was the first, which wrote an event."""
    return await connection.fetchval(_OPEN, ref.tenant_id, ref.message_id, OPENED, None) is not None


async def clicked(connection: "PoolConnectionProxy[Any]", click: Click) -> bool:
    """Count a click; return whether it was the first, which wrote an event with its address."""
    return await connection.fetchval(_CLICK, click.tenant_id, click.message_id, CLICKED, click.target) is not None
