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
from services.marketing import links

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

HASTE_SECONDS: Final = 2
"""Nobody reads a mail and follows a link of it so soon after it was sent: a scanner on its way did."""

BURST_SECONDS: Final = 1
"""Nor does anybody follow several links of a mail so soon after one another."""

# Whoever opens a mail has got it, and so has its scanner: that settles the doubt. Of somebody erased only the count is
# kept.
_COUNT: Final = """
    WITH {before} counted AS (
        UPDATE message
        SET {count} = {count} + CASE WHEN {machine} THEN 0 - {taken} ELSE 1 END,
            {first} = CASE WHEN NOT {machine} THEN coalesce({first}, now()) WHEN {count} > {taken} THEN {first} END,
            machine_{count} = CASE WHEN {machine} THEN coalesce(machine_{count}, 0) + 1 + {taken}
                              ELSE machine_{count} END,
            {more}
            status = CASE status WHEN 'in_doubt' THEN 'delivered' ELSE status END
        {source}
        WHERE tenant_id = $1 AND id = $2
        RETURNING id, person_id, channel, template_version_id, enrollment_id, campaign_id, {count} AS count,
                  {machine} AS machine {known}
    ) {beside}
    INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties)
    SELECT $1, tl_uuid7(), channel || $3, person_id, person_id, jsonb_strip_nulls(jsonb_build_object(
        'message_id', id, 'template_version_id', template_version_id, 'enrollment_id', enrollment_id,
        'campaign_id', campaign_id, 'url', $4::text))
    FROM counted WHERE count = 1 AND NOT machine AND person_id IS NOT NULL
    RETURNING id
"""
_OPEN: Final = _COUNT.format(
    count="opens",
    first="opened_at",
    machine="$5::boolean",
    taken="0",
    more="",
    before="",
    source="",
    known="",
    beside="",
)
_NEAR: Final = f"coalesce(last_click_at > now() - interval '{BURST_SECONDS} seconds', false)"
# Once clicks follow one another too fast, all that goes on so is the same machine's. `last_clicks` is null for it.
_BURST: Final = f"({_NEAR} AND (last_clicks IS NULL OR last_click_link <> $6::bigint))"
_HASTY: Final = f"(coalesce(sent_at > now() - interval '{HASTE_SECONDS} seconds', false) OR {_BURST})"
# What was before must be known by link, too. Locked, it is what other clicks left, not what the statement began with.
_BEFORE: Final = f"""
    before AS (
        SELECT {_NEAR} AS near, {_HASTY} AS hasty, $5::boolean OR {_HASTY} AS machine, last_click_link AS before_link,
               CASE WHEN NOT $5::boolean AND {_BURST} THEN coalesce(last_clicks, 0) ELSE 0 END AS taken
        FROM message WHERE tenant_id = $1 AND id = $2
        FOR NO KEY UPDATE
    ),
"""  # noqa: S608 - all that stands in it are constants of ours
# What is taken back was of the link before. An upsert finds its row though another click has only just written it.
_BY_LINK: Final = """
    , by_link AS (
        INSERT INTO message_click AS c (tenant_id, message_id, link, person_id, url, clicks, machine_clicks)
        SELECT $1, id, n.link, person_id, CASE WHEN person_id IS NOT NULL THEN n.url END, n.clicks, n.machine_clicks
        FROM counted, LATERAL (VALUES
            ($6::bigint, $7::text, 1 - machine::int, machine::int), (before_link, NULL, -taken, taken)
        ) AS n (link, url, clicks, machine_clicks)
        WHERE campaign_id IS NOT NULL AND (n.clicks <> 0 OR n.machine_clicks <> 0)
        ON CONFLICT (tenant_id, message_id, link) DO UPDATE
        SET clicks = c.clicks + excluded.clicks, machine_clicks = c.machine_clicks + excluded.machine_clicks
    )
"""
_CLICK: Final = _COUNT.format(
    count="clicks",
    first="clicked_at",
    machine="before.machine",
    taken="before.taken",
    more="""last_click_at = CASE WHEN $5::boolean THEN last_click_at ELSE greatest(last_click_at, now()) END,
            last_click_link = CASE WHEN $5::boolean THEN last_click_link ELSE $6::bigint END,
            last_clicks = CASE WHEN $5::boolean THEN last_clicks WHEN before.hasty THEN NULL
                          WHEN before.near THEN last_clicks + 1 ELSE 1 END,""",
    before=_BEFORE,
    source="FROM before",
    known=", before_link, taken",
    beside=_BY_LINK,
)


async def opened(connection: "PoolConnectionProxy[Any]", ref: MessageRef, *, machine: bool) -> bool:
    """Count an open, apart where nobody saw it; return whether it was the first, which wrote an event."""
    return await connection.fetchval(_OPEN, ref.tenant_id, ref.message_id, OPENED, None, machine) is not None


async def clicked(connection: "PoolConnectionProxy[Any]", click: Click, *, machine: bool) -> bool:
    """Count a click, apart where nobody did; return whether it was the first, which wrote an event with its address."""
    link = int.from_bytes(blake2b(click.target.encode(), digest_size=8).digest(), signed=True)
    seen = links.unmarked(click.target)
    values = (click.tenant_id, click.message_id, CLICKED, click.target, machine, link, seen)
    return await connection.fetchval(_CLICK, *values) is not None
