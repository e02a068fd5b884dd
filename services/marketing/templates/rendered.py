"""Which partials a text renders, read from where they are kept."""

from collections.abc import Iterable, Mapping

from sqlalchemy import select

from core.database import TenantSession
from models import TemplatePartial
from services.marketing.templates import expanding
from services.marketing.templates.texts import Text


async def by(session: TenantSession, channel: str, text: Text, *, lock: bool = False) -> dict[str, str]:
    """Return the partials that the bodies of a text render, directly or by others, those that are there.

    With `lock` none of them is deleted before the transaction ends.
    """
    bodies = [text.body, *(own.body for own in text.locales.values() if own.body is not None)]
    return await by_bodies(session, channel, bodies, lock=lock)


async def by_bodies(
    session: TenantSession,
    channel: str,
    bodies: Iterable[str],
    *,
    instead: Mapping[str, str] | None = None,
    lock: bool = False,
) -> dict[str, str]:
    """Return the partials that bodies render, as `by`; those of `instead` are not looked for."""
    found: dict[str, str] = {}
    given = instead or {}
    asked: set[str] = set()
    wanted = _named(bodies)
    # deeper than they may stand, none is needed to say so
    for _ in range(expanding.MAX_DEPTH + 1):
        wanted -= asked
        if not wanted:
            break
        asked |= wanted
        fresh = {key: given[key] for key in wanted if key in given}
        if looked_for := wanted - given.keys():
            statement = select(TemplatePartial.key, TemplatePartial.body).where(
                TemplatePartial.tenant_id == session.tenant_id,
                TemplatePartial.channel == channel,
                TemplatePartial.key.in_(looked_for),
            )
            if lock:
                statement = statement.order_by(TemplatePartial.key).with_for_update(key_share=True, read=True)
            fresh |= {row.key: row.body for row in await session.execute(statement)}
        found |= fresh
        wanted = _named(fresh.values())
    return found


def _named(bodies: Iterable[str]) -> set[str]:
    return {key for body in bodies for key in expanding.named(body)}
