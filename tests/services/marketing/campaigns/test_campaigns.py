"""Campaigns in the store: frozen exactly once, held and released to the recipient, ended when nothing is left."""

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, update

from core.errors import ConflictError
from models import Event, MessagePage, Tenant
from services.marketing.campaigns import choosing, control, course, freezing, trying
from services.marketing.outcomes import testing
from tests.factories.campaigning import Campaigning, campaigning, schedule
from tests.factories.marketing import Marketing

DAY = timedelta(days=1)


@pytest.fixture
def desk(marketing: Marketing) -> Campaigning:
    return campaigning(marketing)


async def test_a_campaign_is_frozen_in_pages_and_ends_when_nothing_is_queued(
    desk: Campaigning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "PAGE", 3)
    people = await desk.marketing.people(8)
    strangers = await desk.marketing.people(2, consent=False)
    campaign = await desk.campaign([*people, *strangers])
    await desk.do(control.send, campaign)
    await desk.do(control.send, campaign)
    run = await desk.freeze(campaign)
    assert (run.audience, run.occurrence, run.status) == (10, "once", "running")
    found = await desk.messages()
    assert {person for person, (message, _) in found.items() if message.status == "queued"} == set(people)
    assert {found[each][0].reason for each in strangers} == {"no_consent"}
    assert await desk.look(campaign) == "watch"
    await desk.deliver()
    assert await desk.look(campaign) == "done"
    assert ((await desk.run(campaign)).status, (await desk.get(campaign)).status) == ("finished", "finished")
    async with desk.marketing.session() as session:
        types = await session.scalars(
            select(Event.type).where(Event.tenant_id == session.tenant_id, Event.subject_id == campaign)
        )
        assert sorted(types) == ["campaign.finished", "campaign.started"]


async def test_killed_between_pages_it_goes_on_where_it_was(desk: Campaigning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "PAGE", 3)
    people = await desk.marketing.people(7)
    campaign = await desk.campaign(people)
    await desk.do(control.send, campaign)
    run = await desk.run(campaign)
    assert await desk.look(campaign) == "freeze"
    async with desk.marketing.session() as session:
        assert not await freezing.page(session, run.id)
    async with desk.marketing.session() as session:
        await freezing.page(session, run.id)
        await session.rollback()  # killed before the commit
    run = await desk.freeze(campaign)
    assert (run.audience, len(await desk.messages())) == (7, 7)


async def test_the_audience_is_who_is_in_any_and_in_none_of_the_others_each_once(
    desk: Campaigning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "PAGE", 2)
    people = await desk.marketing.people(9)
    one, two = await desk.segment(people[:6], "one"), await desk.segment(people[3:], "two")
    out = await desk.segment(people[4:6], "out")
    campaign = await desk.campaign([], audience={"include": [one, two], "exclude": [out]})
    await desk.do(control.send, campaign)
    assert (await desk.freeze(campaign)).audience == 7
    assert set(await desk.messages()) == {*people[:4], *people[6:]}


async def test_a_pause_holds_what_is_left_and_a_cancel_ends_it(desk: Campaigning) -> None:
    people = await desk.marketing.people(5)
    campaign = await desk.campaign(people)
    await desk.do(control.send, campaign)
    await desk.freeze(campaign)
    await desk.do(control.pause, campaign)
    await desk.do(control.pause, campaign)
    assert {page.held_for for _, page in (await desk.messages()).values() if page} == {"pause"}
    assert ((await desk.get(campaign)).status, await desk.look(campaign)) == ("paused", "wait")
    await desk.do(control.resume, campaign)
    assert {page.held_for for _, page in (await desk.messages()).values() if page} == {None}
    assert await desk.look(campaign) == "watch"
    await desk.do(control.cancel, campaign)
    assert {page.held_for for _, page in (await desk.messages()).values() if page} == {"cancel"}
    assert await desk.look(campaign) == "done"
    with pytest.raises(ConflictError):
        await desk.do(control.resume, campaign)


async def test_paused_before_it_began_it_is_not_late_when_resumed(desk: Campaigning) -> None:
    now = datetime.now(UTC)
    campaign = await desk.campaign(
        await desk.marketing.people(), schedule=schedule(at=(now + DAY).isoformat()), lateness_minutes=60
    )
    await desk.do(control.schedule, campaign)
    assert (await desk.look(campaign), (await desk.get(campaign)).status) == ("wait", "scheduled")
    await desk.do(control.pause, campaign)
    assert await desk.look(campaign, now=now + 3 * DAY) == "wait"
    await desk.do(control.resume, campaign)
    assert await desk.look(campaign, now=now + DAY + timedelta(minutes=59)) == "freeze"


async def test_what_could_not_begin_in_time_does_not_begin(desk: Campaigning) -> None:
    now = datetime.now(UTC)
    campaign = await desk.campaign(
        await desk.marketing.people(), schedule=schedule(at=(now + DAY).isoformat()), lateness_minutes=60
    )
    await desk.do(control.schedule, campaign)
    assert await desk.look(campaign, now=now + DAY + timedelta(minutes=61)) == "done"
    run = await desk.run(campaign)
    assert (run.status, run.started_at, await desk.messages()) == ("late", None, {})


async def test_zones_go_by_their_own_clocks_and_batches_within_them(desk: Campaigning) -> None:
    wall = datetime(2027, 3, 28, 9)  # noqa: DTZ001 - the morning after Europe's clocks went forward
    zones = ["Europe/Berlin", "America/New_York", None]
    people = {zone: (await desk.marketing.people(4, time_zone=zone)) for zone in zones}
    campaign = await desk.campaign(
        [each for some in people.values() for each in some],
        schedule=schedule(at=wall.isoformat(), time_zone="recipient"),
        batches={"size": 6, "every_minutes": 30},
    )
    await desk.do(control.schedule, campaign)
    run = await desk.run(campaign)
    assert run.due_at == wall.replace(tzinfo=ZoneInfo("Pacific/Kiritimati"))
    await desk.freeze(campaign, now=run.due_at + timedelta(seconds=3))
    found = await desk.messages()
    order = sorted(found)
    for zone, some in people.items():
        moment = wall.replace(tzinfo=ZoneInfo(zone or "UTC"))
        for person in some:
            page = found[person][1]
            assert page is not None
            assert page.ready_at == moment + timedelta(minutes=30) * (order.index(person) // 6)
            assert page.local_at == wall


@pytest.mark.parametrize(
    ("choice", "status", "shift"), [("now", "queued", 0), ("tomorrow", "queued", 1), ("skip", "excluded", 0)]
)
async def test_zones_that_passed_go_by_choice(desk: Campaigning, choice: str, status: str, shift: int) -> None:
    now = datetime.now(UTC)
    wall = (now + timedelta(hours=2)).replace(tzinfo=None)
    [east] = await desk.marketing.people(1, time_zone="Asia/Tokyo")
    [west] = await desk.marketing.people(1, time_zone="America/New_York")
    campaign = await desk.campaign(
        [east, west], schedule=schedule(at=wall.isoformat(), time_zone="recipient", passed_zones=choice)
    )
    await desk.do(control.schedule, campaign)
    await desk.freeze(campaign)
    found = await desk.messages()
    message, page = found[east]
    assert message.status == status
    if page is None:
        assert message.reason == "zone_passed"
    else:
        assert page.local_at == wall + shift * DAY
        assert (page.ready_at <= datetime.now(UTC)) == (shift == 0)
    later = found[west][1]
    assert later is not None
    assert later.ready_at == wall.replace(tzinfo=ZoneInfo("America/New_York"))


async def test_an_audience_frozen_at_schedule_stays_and_the_schedule_may_not_change(desk: Campaigning) -> None:
    at = datetime.now(UTC) + 30 * DAY
    people = await desk.marketing.people(3)
    campaign = await desk.campaign(people, schedule=schedule(at=at.isoformat(), freeze="schedule"))
    await desk.do(control.schedule, campaign)
    run = await desk.freeze(campaign)
    assert run.status == "scheduled"
    assert await desk.look(campaign) == "wait"
    assert {page.ready_at for _, page in (await desk.messages()).values() if page} == {at}
    with pytest.raises(ConflictError, match="schedule"):
        await desk.do(control.update, campaign, {"schedule": schedule(at=(at + DAY).isoformat())}, revision=None)
    assert await desk.look(campaign, now=at) == "watch"


async def test_a_changed_time_moves_the_run_and_a_changed_rate_counts_at_once(desk: Campaigning) -> None:
    at = datetime.now(UTC) + 30 * DAY
    campaign = await desk.campaign(await desk.marketing.people(), schedule=schedule(at=at.isoformat()))
    await desk.do(control.schedule, campaign)
    sooner = schedule(at=(at - 29 * DAY).isoformat())
    await desk.do(control.update, campaign, {"schedule": sooner}, revision=None)
    assert (await desk.run(campaign)).due_at == at - 29 * DAY
    await desk.freeze(campaign, now=at - 29 * DAY)
    await desk.do(control.update, campaign, {"rate_per_minute": 7}, revision=None)
    assert (await desk.run(campaign)).rate_per_minute == 7
    with pytest.raises(ConflictError, match="audience"):
        await desk.do(control.update, campaign, {"audience": {"include": [], "exclude": []}}, revision=None)


async def test_each_occurrence_of_a_recurring_campaign_is_begun_once(desk: Campaigning) -> None:
    people = await desk.marketing.people(2)
    campaign = await desk.campaign(people, schedule=schedule(cron="0 9 * * *"))
    await desk.do(control.schedule, campaign)
    assert await desk.runs(campaign) == []
    due = datetime(2030, 1, 1, 9, 0, 12, tzinfo=UTC)
    for moment in (due, due + timedelta(seconds=20), due + DAY):
        async with desk.marketing.session() as session:
            await course.begin_occurrence(session, campaign, moment)
    found = await desk.runs(campaign)
    assert [run.occurrence for run in found] == ["2030-01-01T09:00Z", "2030-01-02T09:00Z"]
    await desk.do(control.pause, campaign)
    async with desk.marketing.session() as session:
        assert await course.begin_occurrence(session, campaign, due + 2 * DAY) is None
    await desk.do(control.resume, campaign)
    assert (await desk.get(campaign)).status == "scheduled"
    await desk.do(control.cancel, campaign)
    assert {run.status for run in await desk.runs(campaign)} == {"cancelled"}


async def test_an_occurrence_whose_text_may_not_be_sent_any_more_fails_and_says_why(desk: Campaigning) -> None:
    campaign = await desk.campaign([], schedule=schedule(cron="0 9 * * *"))
    await desk.do(control.schedule, campaign)
    async with desk.marketing.session() as session:
        tenant = update(Tenant).where(Tenant.id == session.tenant_id)
        await session.execute(tenant.values(postal_address=None, from_address="shop@nobodys.example"))
        due = datetime(2030, 1, 1, 9, tzinfo=UTC)
        assert await course.begin_occurrence(session, campaign, due, verified_senders=True) is None
    run = await desk.run(campaign)
    assert run.status == "failed"
    assert run.reason is not None
    assert "nobodys.example is not a verified sender domain (unverified_domain)" in run.reason
    assert "postal address" in run.reason


async def test_a_message_that_a_page_forgot_keeps_it_from_finishing(desk: Campaigning) -> None:
    campaign = await desk.campaign(await desk.marketing.people(2))
    await desk.do(control.send, campaign)
    await desk.freeze(campaign)
    async with desk.marketing.session() as session:
        pages = update(MessagePage).where(MessagePage.tenant_id == session.tenant_id)
        await session.execute(pages.values(finished_at=datetime.now(UTC)))
    assert await desk.look(campaign) == "wait"
    assert (await desk.get(campaign)).status == "running"


async def test_a_test_samples_holds_out_and_gives_the_rest_what_was_chosen(
    desk: Campaigning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "PAGES", 1)
    people = await desk.marketing.people(200)
    templates = [await desk.template(key) for key in ("one", "two")]
    campaign = await desk.campaign(
        people,
        variants=[{"template_id": each, "share": 1} for each in templates],
        test={
            "share": 0.3,
            "metric": "clicks",
            "wait_hours": 4,
            "significance": 0.05,
            "holdout": 0.2,
            "fallback": "manual",
        },
        batches={"size": 50, "every_minutes": 30},
    )
    await desk.do(control.send, campaign)
    now = datetime.now(UTC) + timedelta(seconds=60)
    run = await desk.freeze(campaign)
    found = await desk.messages()
    sample = {person for person, (message, _) in found.items() if message.tested}
    out = {person for person, (message, _) in found.items() if message.reason == "holdout"}
    rest = set(people) - sample - out
    assert 25 < len(sample) < 95
    assert 10 < len(out) < 80
    assert {found[each][0].variant for each in sample} == {0, 1}
    held = {each: page for each in rest if (page := found[each][1])}
    assert {page.held_for for page in held.values()} == {"winner"}
    assert {found[each][0].variant for each in rest} == {None}
    assert await desk.look(campaign) == "wait"
    assert await desk.look(campaign, now=now + timedelta(hours=4)) == "wait", "the sample is not out yet"
    await desk.deliver()
    assert await desk.look(campaign, now=now + timedelta(hours=4)) == "decide"
    async with desk.marketing.session() as session:
        await choosing.decide(session, run.id)
    assert await desk.look(campaign, now=now + timedelta(hours=5)) == "wait"
    await desk.do(testing.choose, campaign, 1)
    assert await desk.look(campaign, now=now + timedelta(hours=5)) == "release"
    done, slices, released_after = False, 0, datetime.now(UTC)
    while not done:
        async with desk.marketing.session() as session:
            done, slices = await choosing.release(session, run.id), slices + 1
    assert slices > 1
    after = await desk.messages()
    versions = {after[each][0].template_version_id for each in rest}
    assert versions == {UUID((await desk.run(campaign)).plan["variants"][1]["template_version_id"])}
    assert run.started_at is not None
    for each, page in held.items():
        released = after[each][1]
        assert released is not None
        assert released.held_for is None
        assert released.ready_at - page.ready_at >= released_after - run.started_at, "batches begin anew"
    pages = [page for each, (_, page) in found.items() if each in sample]
    assert {page.ready_at for page in pages if page} == {max(run.due_at, run.started_at)}
    assert len({page.ready_at for page in held.values()}) == 4
    assert {after[each][0].reason for each in out} == {"holdout"}
    await desk.deliver()
    assert await desk.look(campaign, now=now + timedelta(hours=5)) == "done"


async def test_what_is_foreseen_is_what_is_decided(desk: Campaigning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freezing, "PAGE", 3)
    monkeypatch.setattr(trying, "_PAGE", 3)
    people = [*await desk.marketing.people(6), *await desk.marketing.people(2, consent=False)]
    campaign = await desk.campaign(people)
    async with desk.marketing.session() as session:
        foreseen = await trying.estimate(session, campaign)
        assert not session.new
    assert not await desk.messages()
    await desk.do(control.send, campaign)
    run = await desk.freeze(campaign)
    statuses = [message.status for message, _ in (await desk.messages()).values()]
    assert (foreseen.audience, foreseen.queued) == (run.audience, statuses.count("queued")) == (8, 6)
    assert foreseen.excluded == {"no_consent": 2}
