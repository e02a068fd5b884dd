"""Installed apps that push messages reach people by: a token is one person's, whoever signed in to the app last."""

from collections.abc import Collection, Sequence
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from core.ids import new_id
from models import Device
from services.identity import people
from services.shared import activity
from services.shared.activity import NewActivity

Platform = Literal["android", "ios", "web"]

MAX_DEVICES: Final = 50
"""Of one person."""
MAX_TOKEN: Final = 1_000
"""Characters."""


async def register(
    session: TenantSession, person_id: UUID, *, token: str, platform: Platform, by: Actor
) -> tuple[Device, bool]:
    """Note that a person's app has this token, seen just now; return it and whether it is new to them.

    A token that was another person's is theirs no longer.

    Raises:
        NotFoundError: no such person.
        ConflictError: the person has too many devices.
    """
    person = await people.locked(session, person_id)
    known = await session.scalar(
        select(Device)
        .where(Device.tenant_id == session.tenant_id, Device.token == token)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if known is None or known.person_id != person.id:
        count = select(func.count()).where(Device.tenant_id == session.tenant_id, Device.person_id == person.id)
        if (await session.scalar(count) or 0) >= MAX_DEVICES:
            raise ConflictError(f"A person has at most {MAX_DEVICES} devices; delete some that are not in use.")
    before = None if known is None else known.person_id
    upsert = insert(Device).values(
        tenant_id=session.tenant_id, id=new_id(), person_id=person.id, token=token, platform=platform
    )
    statement = upsert.on_conflict_do_update(
        index_elements=[Device.tenant_id, Device.token],
        set_={"person_id": person.id, "platform": platform, "seen_at": func.clock_timestamp()},
    ).returning(Device)
    device = await session.scalar(statement, execution_options={"populate_existing": True})
    if device is None:
        raise NotFoundError("No such person.")
    if before == person.id:
        return device, False  # apps say so each time they start: nothing for the log
    entries = [NewActivity("person", person.id, "person.device_registered", {"device": (None, str(device.id))})]
    if before is not None:
        entries.append(NewActivity("person", before, "person.device_removed", {"device": (str(device.id), None)}))
    await activity.record_all(session, entries, by=by)
    return device, True


async def of_person(session: TenantSession, person_id: UUID) -> Sequence[Device]:
    """Return a person's devices, the one seen last first.

    Raises:
        NotFoundError: no such person.
    """
    person = await people.get(session, person_id)
    statement = select(Device).where(Device.tenant_id == session.tenant_id, Device.person_id == person.id)
    return (await session.scalars(statement.order_by(Device.seen_at.desc(), Device.id.desc()))).all()


async def remove(session: TenantSession, person_id: UUID, device_id: UUID, *, by: Actor) -> None:
    """Forget a person's device.

    Raises:
        NotFoundError: the person has no such device.
    """
    person = await people.get(session, person_id)
    gone = await session.scalar(
        delete(Device)
        .where(Device.tenant_id == session.tenant_id, Device.person_id == person.id, Device.id == device_id)
        .returning(Device.id)
    )
    if gone is None:
        raise NotFoundError("No such device.")
    removed = NewActivity("person", person.id, "person.device_removed", {"device": (str(device_id), None)})
    await activity.record_all(session, [removed], by=by)


async def forget(session: TenantSession, tokens: Collection[str], *, by: Actor) -> int:
    """Forget the devices of tokens whose apps are gone, as the provider says; return how many there were."""
    if not tokens:
        return 0
    rows = await session.execute(
        delete(Device)
        .where(Device.tenant_id == session.tenant_id, Device.token.in_(sorted(tokens)))
        .returning(Device.id, Device.person_id)
    )
    removed = [
        NewActivity("person", row.person_id, "person.device_removed", {"device": (str(row.id), None)}) for row in rows
    ]
    await activity.record_all(session, removed, by=by)
    return len(removed)
