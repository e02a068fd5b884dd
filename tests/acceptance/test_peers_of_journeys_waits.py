"""Complaints about waits that must not arise here, by their number in the research, tried on the whole platform."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from core.actor import CLI
from services.events.publish import NewEvent, publish
from services.identity import bulk
from services.journeys.versions import LoadedVersion
from tests.eventually import eventually
from tests.factories.marketing import Marketing, walk
from tests.factories.running import Platform

SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
LATE = {"type": "exit", "reason": "late"}


async def post(marketing: Marketing, *events: NewEvent) -> None:
    async with marketing.session() as session:
        await publish(session, events)


async def set_fields(marketing: Marketing, person_id: UUID, fields: dict[str, str], **attributes: Any) -> None:  # noqa: ANN401 - JSON
    async with marketing.session() as session:
        await bulk.set_fields(session, [person_id], fields=fields, attributes=attributes, by=CLI)


async def ended(marketing: Marketing, version: LoadedVersion) -> dict[UUID, str | None]:
    return {row.subject_id: row.reason for row in await marketing.enrollments(version) if row.ended_at is not None}


async def test_row_12_a_wait_until_awaits_a_new_event_with_the_values_of_the_entry(running: Platform) -> None:
    """PostHog: "wait until" could not await a new event, nor match the trigger's `order_id`."""
    marketing = running.marketing
    await marketing.template("hello")
    pro = {"field": "person.attributes.plan", "op": "=", "value": "pro"}
    until = {
        "type": "wait_until",
        "any": [
            {"event": "order.shipped", "match": {"event.properties.order_id": "entry.order_id"}, "next": "send"},
            {"when": pro, "next": "late"},
        ],
        "timeout": "P30D",
        "timed_out": "late",
    }
    entry = {"event": "order.placed", "key": "event.properties.order_id"}
    version = await marketing.journey(walk(entry=entry, until=until, send=SEND, late=LATE))
    waiting, shipped, upgraded = await marketing.people(3)
    already = await marketing.person(attributes={"plan": "pro"})

    def event(kind: str, person: UUID, order_id: str) -> NewEvent:
        return NewEvent(kind, person, properties={"order_id": order_id, "total": "1.00", "currency": "EUR"})

    async with running.worker(), running.relaying():
        await post(marketing, event("order.shipped", shipped, "b"))  # before it is waited for
        people = (waiting, shipped, upgraded, already)
        await post(marketing, *(event("order.placed", person, key) for person, key in zip(people, "abcd", strict=True)))
        await marketing.until_waiting(3)
        await post(marketing, event("order.shipped", waiting, "x"), event("order.shipped", shipped, "b"))
        await set_fields(marketing, upgraded, {}, plan="pro")

        async def three_ended() -> bool:
            return len(await ended(marketing, version)) == 3

        await eventually(three_ended)
    assert await ended(marketing, version) == {shipped: "finished", upgraded: "late", already: "late"}
    assert [waiter.subject_id for waiter in await marketing.waiters()] == [waiting]
    assert [message.person_id for message in await marketing.messages()] == [shipped]


async def test_row_19_zones_and_dates_that_change_in_mid_wait_move_its_end(running: Platform) -> None:
    """Mautic: mail came two hours late, and a saved hour became another."""
    marketing = running.marketing
    await marketing.template("hello")
    now = datetime.now(UTC)
    date = {"type": "wait", "until": "person.attributes.renews_at", "next": "send", "past": "late"}
    far = (now + timedelta(days=30)).isoformat()
    people = [await marketing.person(attributes={"renews_at": far}) for _ in range(3)]
    dated = await marketing.journey(walk(date=date, send=SEND, late=LATE), "dated")
    # a window that is closed in Tokyo and open in Greenwich
    hours = {"from": f"{now - timedelta(hours=2):%H:%M}", "to": f"{now + timedelta(hours=2):%H:%M}"}
    window = {"type": "time_window", **hours, "next": "done"}
    traveller, resident = await marketing.people(2, time_zone="Asia/Tokyo")
    zoned = await marketing.journey(walk(window=window), "zoned")
    await marketing.enroll(dated, people)
    await marketing.enroll(zoned, [traveller, resident])
    async with running.worker(), running.relaying():
        await running.deliver()
        cohorts = [*await marketing.cohorts(dated), *await marketing.cohorts(zoned)]
        await running.settled(cohorts[0], date={"waiting": 3})
        await running.settled(cohorts[1], window={"waiting": 2})
        await set_fields(marketing, people[0], {}, renews_at=(now - timedelta(days=1)).isoformat())
        await set_fields(marketing, people[1], {}, renews_at=(datetime.now(UTC) + timedelta(seconds=3)).isoformat())
        await set_fields(marketing, traveller, {"time_zone": "UTC"})

        async def moved() -> bool:
            return len(await ended(marketing, dated)) == 2 and len(await ended(marketing, zoned)) == 1

        await eventually(moved)
    assert await ended(marketing, dated) == {people[0]: "late", people[1]: "finished"}
    assert await ended(marketing, zoned) == {traveller: "finished"}
    assert [message.person_id for message in await marketing.messages()] == [people[1]]


async def test_row_07_a_wait_outlives_the_worker_and_what_fell_due_happens(running: Platform) -> None:
    """Parcelvoy: a campaign was idle for hours until somebody restarted it."""
    marketing = running.marketing
    await marketing.template("hello")
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()  # a busy machine has them wait by then
    date = {"type": "wait", "until": "entry.at", "next": "send", "past": "late"}
    people = await marketing.people(20)
    cohort = await marketing.walking(walk(date=date, send=SEND, late=LATE), people, entry={"at": soon})
    async with running.worker():
        await running.deliver()
        await running.settled(cohort, date={"waiting": 20})
    # no worker lives when it falls due
    async with running.worker():
        await running.finished(cohort)
    assert set((await ended(marketing, cohort.version)).values()) == {"finished"}
    assert len({message.person_id for message in await marketing.messages()}) == len(await marketing.messages()) == 20
