"""The clock of segments, wherever a relay runs."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import insert, select

from core.database import Database, TenantSession
from core.ids import new_id
from models import Person, SegmentFlip
from relay.turns import SegmentClock
from services.marketing.segments import clock
from services.marketing.segments.clock import Due
from services.tenancy import tenants


async def due(database: Database, tenant_id: UUID) -> UUID:
    """Have somebody of the tenant be due for a segment that is no more."""
    person_id = new_id()
    async with database.tenant(tenant_id) as session:
        await session.execute(insert(Person).values(tenant_id=tenant_id, id=person_id))
        flip = {"segment_id": new_id(), "person_id": person_id, "at": datetime.now(UTC) - timedelta(minutes=1)}
        await session.execute(insert(SegmentFlip).values(tenant_id=tenant_id, **flip))
    return person_id


async def moments(database: Database, tenant_id: UUID) -> list[datetime]:
    async with database.tenant(tenant_id) as session:
        return list(await session.scalars(select(SegmentFlip.at).where(SegmentFlip.tenant_id == tenant_id)))


async def test_one_tenants_trouble_is_put_off_and_holds_up_nobody(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(empty_database_url)
    async with database.system() as session:
        bad, good = [(await tenants.create(session, key, key)).id for key in ("bad", "good")]
    for tenant_id in (bad, good):
        await due(database, tenant_id)
    turn = clock.turn

    async def fails_for_one(session: TenantSession, who: Due) -> int:
        if session.tenant_id == bad:
            raise ValueError("what nobody thought of")
        return await turn(session, who)

    monkeypatch.setattr(clock, "turn", fails_for_one)
    assert await SegmentClock(database).once() == 0
    assert await moments(database, good) == []
    [later] = await moments(database, bad)
    assert later > datetime.now(UTC) + timedelta(minutes=4)
    assert await SegmentClock(database).once() > 0
    await database.close()
