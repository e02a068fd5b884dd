"""What recipients do with a message: opens and clicks, counted where they happen, in one statement each.

The first of a kind is also an event of the person; the rest only count, for whoever has the mail can repeat them at
will. What machines do (privacy proxies, scanners, link checkers) is counted apart: it says nothing of the person, so it
is no event and moves no journey.

A scanner that calls itself a browser shows by its speed: nobody follows two links of a mail within a second. Its first
click was counted as a person's before the second came, so that one is taken back. An event that was told stays told.
See docs/decisions/feedback.md.
"""

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from contracts.events import CLICKED, OPENED
from core.tokens import Click, MessageRef

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

HASTE_SECONDS: Final = 2
"""Nobody reads a mail and follows a link of it so soon after it was sent: a scanner on its way did."""

BURST_SECONDS: Final = 1
"""Nor does anybody follow several links of a mail so soon after one another."""

# Whoever opens a mail has got it, and so has its scanner: that settles the doubt. Of somebody erased only the count is
# kept.
_COUNT: Final = """
    WITH counted AS (
        UPDATE message
        SET {count} = {count} + CASE WHEN {machine} THEN 0 - {taken} ELSE 1 END,
            {first} = CASE WHEN NOT {machine} THEN coalesce({first}, now()) WHEN {count} > {taken} THEN {first} END,
            machine_{count} = CASE WHEN {machine} THEN coalesce(machine_{count}, 0) + 1 + {taken}
                              ELSE machine_{count} END,
            {more}
            status = CASE status WHEN 'in_doubt' THEN 'delivered' ELSE status END
        WHERE tenant_id = $1 AND id = $2
        RETURNING id, person_id, channel, template_version_id, enrollment_id, campaign_id, {count} AS count,
                  {machine} AS machine
    )
    INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties)
    SELECT $1, tl_uuid7(), channel || $3, person_id, person_id, jsonb_strip_nulls(jsonb_build_object(
        'message_id', id, 'template_version_id', template_version_id, 'enrollment_id', enrollment_id,
        'campaign_id', campaign_id, 'url', $4::text))
    FROM counted WHERE count = 1 AND NOT machine AND person_id IS NOT NULL
    RETURNING id
"""
_OPEN: Final = _COUNT.format(count="opens", first="opened_at", machine="$5::boolean", taken="0", more="")
_NEAR: Final = f"coalesce(last_click_at > now() - interval '{BURST_SECONDS} seconds', false)"
# Once clicks follow one another too fast, all that goes on so is the same machine's. `last_clicks` is null for it.
_BURST: Final = f"({_NEAR} AND (last_clicks IS NULL OR last_click_link <> $6::bigint))"
_HASTY: Final = f"(coalesce(sent_at > now() - interval '{HASTE_SECONDS} seconds', false) OR {_BURST})"
_CLICK: Final = _COUNT.format(
    count="clicks",
    first="clicked_at",
    machine=f"($5::boolean OR {_HASTY})",
    taken=f"CASE WHEN NOT $5::boolean AND {_BURST} THEN coalesce(last_clicks, 0) ELSE 0 END",
    more=f"""last_click_at = CASE WHEN $5::boolean THEN last_click_at ELSE greatest(last_click_at, now()) END,
            last_click_link = CASE WHEN $5::boolean THEN last_click_link ELSE $6::bigint END,
            last_clicks = CASE WHEN $5::boolean THEN last_clicks WHEN {_HASTY} THEN NULL
                          WHEN {_NEAR} THEN last_clicks + 1 ELSE 1 END,""",
)


async def opened(connection: "PoolConnectionProxy[Any]", ref: MessageRef, *, machine: bool) -> bool:
    """Count an open, apart where nobody saw it; return whether it was the first, which wrote an event."""
    return await connection.fetchval(_OPEN, ref.tenant_id, ref.message_id, OPENED, None, machine) is not None


async def clicked(connection: "PoolConnectionProxy[Any]", click: Click, *, machine: bool) -> bool:
    """Count a click, apart where nobody did; return whether it was the first, which wrote an event with its address."""
    link = int.from_bytes(blake2b(click.target.encode(), digest_size=8).digest(), signed=True)
    first = await connection.fetchval(_CLICK, click.tenant_id, click.message_id, CLICKED, click.target, machine, link)
    return first is not None
