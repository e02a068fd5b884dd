"""Addresses nothing is sent to, whatever the consent: bounced, complained, or put there by hand."""

from typing import Final, Literal

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from models import Suppression
from services.identity import normalize
from services.shared import activity

Channel = Literal["email", "sms"]
CHANNELS: Final = ("email", "sms")
"""Those whose addresses may be suppressed."""

BY_HAND: Final = "manual"


async def add(
    session: TenantSession, *, channel: Channel, address: str, reason: str, by: Actor
) -> tuple[Suppression, bool]:
    """Suppress an address; return it and whether that is new. One suppressed before keeps its reason.

    Raises:
        InvalidError: not an address of the channel.
    """
    normal = normalized(channel, address)
    values = {"tenant_id": session.tenant_id, "channel": channel, "address": normal, "reason": reason}
    statement = insert(Suppression).values(values).on_conflict_do_nothing().returning(Suppression)
    created = await session.scalar(statement)
    if created is not None:
        await _record(session, "suppression.added", channel, (None, normal), by)
        return created, True
    return await get(session, channel=channel, address=normal), False


async def get(session: TenantSession, *, channel: Channel, address: str) -> Suppression:
    """Return a suppression.

    Raises:
        NotFoundError: the address is not suppressed.
    """
    key = {"tenant_id": session.tenant_id, "channel": channel, "address": normalized(channel, address)}
    found = await session.get(Suppression, key)
    if found is None:
        raise NotFoundError("The address is not suppressed.")
    return found


async def page(
    session: TenantSession, *, limit: int, after: tuple[str, str] | None, channel: Channel | None, address: str | None
) -> list[Suppression]:
    """Return up to `limit` suppressions in order of channel and address, those behind `after`."""
    statement = (
        select(Suppression)
        .where(Suppression.tenant_id == session.tenant_id)
        .order_by(Suppression.channel, Suppression.address)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(tuple_(Suppression.channel, Suppression.address) > after)
    if channel is not None:
        statement = statement.where(Suppression.channel == channel)
    if address is not None:
        statement = statement.where(Suppression.address == address)
    return list((await session.scalars(statement)).all())


async def remove(session: TenantSession, *, channel: Channel, address: str, by: Actor) -> None:
    """Let an address be sent to again, as far as consent goes.

    Raises:
        NotFoundError: it is not suppressed.
    """
    normal = normalized(channel, address)
    statement = (
        delete(Suppression)
        .where(
            Suppression.tenant_id == session.tenant_id, Suppression.channel == channel, Suppression.address == normal
        )
        .returning(Suppression.address)
    )
    if await session.scalar(statement) is None:
        raise NotFoundError("The address is not suppressed.")
    await _record(session, "suppression.removed", channel, (normal, None), by)


def normalized(channel: Channel, address: str) -> str:
    """Return the address as messages have it.

    Raises:
        InvalidError: naming `address`.
    """
    return normalize.BY_KIND["email" if channel == "email" else "phone"](address, "address")


async def _record(
    session: TenantSession, verb: str, channel: str, change: tuple[str | None, str | None], by: Actor
) -> None:
    await activity.record(
        session, by=by, subject_type="tenant", subject_id=session.tenant_id, type=verb, changes={channel: change}
    )
