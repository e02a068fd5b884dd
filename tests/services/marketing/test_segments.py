"""Segments: who is in one, by rules that are followed as things happen, as time goes by, and for everybody at once."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from core.actor import CLI
from core.errors import ConflictError, InvalidError
from models import SegmentRefresh
from services.identity import people
from services.identity.people import PersonChange
from services.marketing.segments import definitions, freshness, membership, refreshing
from tests.eventually import eventually
from tests.factories.marketing import Marketing
from tests.factories.segmenting import Segments, happened

PRO = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
BUYER = {"event": "order.placed", "count": {"op": ">=", "value": 2}, "within": "P7D"}


@pytest.fixture
def segments(marketing: Marketing) -> Segments:
    return Segments(marketing)


async def set_plan(segments: Segments, person_id: UUID, plan: str | None) -> None:
    async with segments.session() as session:
        await people.update(session, person_id, PersonChange(attributes={"plan": plan}), by=CLI)


async def test_a_new_segment_is_computed_and_then_follows_what_happens(segments: Segments) -> None:
    ann, bob = await segments.marketing.people(2)
    await set_plan(segments, ann, "pro")
    await segments.add("pro", PRO)
    assert await segments.members("pro") == {ann}
    await set_plan(segments, bob, "pro")
    await set_plan(segments, ann, None)
    await segments.relay()
    assert await segments.members("pro") == {bob}
    told = [
        (event.type, event.person_id, event.properties["segment"], event.live)
        for event in await segments.events("segment.entered", "segment.left")
    ]
    assert sorted(told) == sorted([("segment.entered", bob, "pro", True), ("segment.left", ann, "pro", True)])
    [computed] = await segments.events("segment.computed")
    assert computed.properties["entered"] == 1
    assert computed.properties["quiet"] is True


async def test_what_takes_the_place_of_a_quiet_computation_is_quiet(segments: Segments) -> None:
    ann, bob = await segments.marketing.people(2)
    await set_plan(segments, ann, "pro")
    await segments.add("pro", PRO)
    await segments.change("pro", rules={"not": PRO})
    async with segments.session() as session:
        quiet = await session.scalar(
            select(SegmentRefresh.id).where(
                SegmentRefresh.tenant_id == session.tenant_id, SegmentRefresh.status == "queued"
            )
        )
        assert quiet is not None
        await refreshing.load(session, quiet)  # it has begun, and has looked at nobody yet
    async with segments.session() as session:
        segment = await definitions.find(session, "pro")
        asked = await refreshing.owe(session, segment, cause="manual", quiet=False, by=CLI, restart=True)
        assert asked.id != quiet
    await segments.compute()
    assert await segments.members("pro") == {bob}
    assert await segments.events("segment.entered", "segment.left") == []


async def test_counts_follow_events_and_time(segments: Segments) -> None:
    ann, bob = await segments.marketing.people(2)
    await segments.add("buyers", BUYER | {"within": "PT2S"})
    now = datetime.now(UTC)
    await segments.publish(
        *(happened("order.placed", ann, total="10.00", currency="EUR") for _ in range(2)),
        happened("order.placed", bob, total="1.00", currency="EUR"),
    )
    await segments.relay()
    assert await segments.members("buyers") == {ann}
    flips = await segments.flips("buyers")
    assert set(flips) == {ann}
    assert now < flips[ann] < now + timedelta(seconds=4)

    async def turned() -> bool:
        await segments.turn()
        return await segments.members("buyers") == set()

    await eventually(turned)
    assert await segments.flips("buyers") == {}
    async with segments.session() as session:
        measured = await freshness.measured(session)
    assert measured.changes == 2


async def test_everybody_can_be_looked_at_again(segments: Segments) -> None:
    ann, bob = await segments.marketing.people(2)
    await segments.add("pro", PRO, refresh="manual")
    await set_plan(segments, ann, "pro")
    await segments.relay()
    assert await segments.members("pro") == set()
    run = await segments.recompute("pro")
    assert (run.status, run.people, run.entered, run.departed) == ("finished", 2, 1, 0)
    assert await segments.members("pro") == {ann}
    [told] = await segments.events("segment.entered")
    assert (told.person_id, told.live) == (ann, True)
    await set_plan(segments, ann, "free")
    await set_plan(segments, bob, "pro")
    run = await segments.recompute("pro")
    assert (run.entered, run.departed) == (1, 1)
    assert await segments.members("pro") == {bob}


async def test_segments_build_on_segments(segments: Segments) -> None:
    ann, bob = await segments.marketing.people(2)
    await segments.add("pro", PRO)
    await segments.add("others", {"not": {"in_segment": "pro"}})
    await segments.add("both", {"all": [{"in_segment": "pro"}, {"not": {"in_segment": "others"}}]})
    assert await segments.members("others") == {ann, bob}
    await set_plan(segments, ann, "pro")
    await segments.relay()
    assert await segments.members("others") == {bob}
    assert await segments.members("both") == {ann}
    await segments.change("pro", rules={"not": PRO})
    await segments.compute()
    assert await segments.members("pro") == {bob}
    assert await segments.members("others") == {ann}
    assert await segments.members("both") == {bob}
    with pytest.raises(InvalidError, match=r"pro -> both -> (others -> )?pro"):
        await segments.change("pro", rules={"in_segment": "both"})
    async with segments.session() as session:
        with pytest.raises(ConflictError, match="the segment both, the segment others"):
            await definitions.drop(session, await definitions.find(session, "pro"), by=CLI)


async def test_static_segments_are_kept_by_hand_and_copied_from_dynamic_ones(segments: Segments) -> None:
    ann, bob = await segments.marketing.people(2)
    await set_plan(segments, ann, "pro")
    await segments.add("pro", PRO)
    await segments.add("vip")
    async with segments.session() as session:
        vip = await definitions.find(session, "vip")
        assert (await membership.add(session, vip, [bob, bob], by=CLI)).count == 1
        assert (await membership.add(session, vip, [bob], by=CLI)).count == 0
        pro = await definitions.find(session, "pro")
        with pytest.raises(ConflictError, match="rules"):
            await membership.add(session, pro, [bob], by=CLI)
        await definitions.snapshot(session, pro, key="copy", name="Copy", by=CLI)
    assert await segments.members("vip") == {bob}
    assert await segments.members("copy") == {ann}
    await set_plan(segments, ann, None)
    await segments.relay()
    assert await segments.members("pro") == set()
    assert await segments.members("copy") == {ann}
