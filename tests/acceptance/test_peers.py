"""What made users leave other systems must not happen here: the complaints by their number in the research.

Each is tried on the whole: relay, starter of cohorts, worker, real Temporal, real store; 13 through the API alone.
"""

import asyncio
import random
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient
from sqlalchemy import func, select, update
from temporalio.testing import ActivityEnvironment

from activities.people_import import ImportActivities
from contracts.people_import import ImportRef
from core.database import TenantSession
from journeys.entries import Again
from models import Enrollment, Person
from services.events.publish import NewEvent, publish
from services.identity import import_run
from services.journeys.versions import LoadedVersion
from tests.eventually import eventually
from tests.factories.marketing import Marketing, walk
from tests.factories.running import Platform
from tests.journeys.examples import ABANDONED_CART

SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
WAIT = {"type": "wait", "for": "P1D", "next": "done"}
NAP = {"type": "wait", "for": "PT1S", "next": "send"}


async def post(marketing: Marketing, *events: NewEvent) -> None:
    async with marketing.session() as session:
        await publish(session, events)


async def all_ended(marketing: Marketing, version: LoadedVersion, count: int) -> bool:
    rows = await marketing.enrollments(version)
    return len(rows) == count and all(row.ended_at is not None for row in rows)


async def test_01_steps_added_later_concern_those_who_enter_later(running: Platform) -> None:
    """Mautic: steps added to a live campaign left those already past them in limbo."""
    marketing = running.marketing
    await marketing.template("hello")
    first = await marketing.journey(walk(nap={**NAP, "next": "done"}))
    early, late = await marketing.people(2)
    await marketing.enroll(first, [early])
    second = await marketing.journey(walk(nap=NAP, send=SEND))
    await marketing.enroll(second, [late])
    async with running.worker():
        await running.deliver()
        await eventually(lambda: all_ended(marketing, first, 1))
        await eventually(lambda: all_ended(marketing, second, 1))
    assert [message.person_id for message in await marketing.messages()] == [late]


async def test_02_and_03_overlapping_runs_drop_nobody_and_send_once(running: Platform) -> None:
    """Mautic: overlapping crons dropped contacts; crons of the same second sent again and again."""
    marketing = running.marketing
    await marketing.template("hello")
    version = await marketing.journey(walk(entry={"event": "form.submitted"}, nap=NAP, send=SEND))
    people = await marketing.people(40)
    async with running.worker(), running.relaying(), running.relaying(), running.relaying():
        for part in (people[:10], people[10:30], people[20:]):
            await post(marketing, *(NewEvent("form.submitted", person) for person in part))
        await eventually(lambda: all_ended(marketing, version, len(people)))
    assert sorted(str(message.person_id) for message in await marketing.messages()) == sorted(map(str, people))


async def test_06_schedule_once_enrolls_once(running: Platform) -> None:
    """Parcelvoy: "schedule once" enrolled people four times; hundreds unsubscribed."""
    marketing = running.marketing
    await marketing.template("hello")
    version = await marketing.journey(walk(entry={"event": "form.submitted"}, send=SEND))
    person = await marketing.person()
    async with running.worker(), running.relaying():
        for _ in range(4):
            await post(marketing, NewEvent("form.submitted", person))
        await asyncio.gather(*(marketing.enroll(version, [person], again=Again()) for _ in range(4)))
        await eventually(lambda: all_ended(marketing, version, 1))
        await post(marketing, NewEvent("form.submitted", person))
        await running.relay()
    assert len(await marketing.enrollments(version)) == 1
    assert len(await marketing.messages()) == 1


async def test_12_a_wait_awaits_a_new_event_with_the_values_it_was_entered_by(running: Platform) -> None:
    """PostHog: a wait could not await a new event, nor match the `order_id` of what triggered it."""
    marketing = running.marketing
    await marketing.template("hello")
    listen = {
        "type": "wait_for_event",
        "event": "order.shipped",
        "match": {"event.properties.order_id": "entry.order_id"},
        "timeout": "P30D",
        "matched": "send",
        "timed_out": "done",
    }
    entry = {"event": "order.placed", "key": "event.properties.order_id"}
    version = await marketing.journey(walk(entry=entry, listen=listen, send=SEND))
    person = await marketing.person()

    def event(kind: str, order_id: str) -> NewEvent:
        return NewEvent(kind, person, properties={"order_id": order_id, "total": "1.00", "currency": "EUR"})

    async def matched() -> bool:
        return {row.entry_key: row.reason for row in await marketing.enrollments(version)} == {
            "a": None,
            "b": "finished",
        }

    async with running.worker(), running.relaying():
        await post(marketing, event("order.shipped", "b"), event("order.placed", "a"), event("order.placed", "b"))
        await eventually(marketing.waiters)
        await post(marketing, event("order.shipped", "x"), event("order.shipped", "b"))
        await eventually(matched)
    assert [waiter.match for waiter in await marketing.waiters()] == [{"order_id": "a"}]
    assert len(await marketing.messages()) == 1


async def test_13_the_abandoned_cart_through_the_api(client: AsyncClient, running: Platform) -> None:
    """Dittofeed: entry by an event and a wait for another were rejected together."""

    async def call(method: str, path: str, body: Any = None) -> Any:  # noqa: ANN401 - JSON
        answer = await client.request(method, f"/v1{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    nodes = {
        **ABANDONED_CART["nodes"],
        "bought": {**ABANDONED_CART["nodes"]["bought"], "timeout": "PT2S"},
        "morning": {"type": "wait", "for": "PT1S", "next": "mark"},
    }
    for key in ("cart_vip", "cart_reminder"):
        body = {"key": key, "channel": "email", "subject": "Your cart", "body": "<p>{{ entry.cart_id }}</p>"}
        await call("POST", "/templates", body)
    definition = {**ABANDONED_CART, "nodes": nodes}
    await call("POST", "/journeys", {"key": "cart", "name": "Cart", "definition": definition})
    await call("POST", "/journeys/cart/publish")
    consent = [{"channel": "email", "topic": "general", "status": "opted_in"}]
    emails = {name: f"{name}@example.com" for name in ("buyer", "plain", "vip")}
    ids = {}
    for name, email in emails.items():
        attributes = {"vip": name == "vip"}
        ids[name] = (await call("POST", "/people", {"email": email, "consent": consent, "attributes": attributes}))[
            "id"
        ]

    def event(kind: str, name: str, **properties: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        return {"type": kind, "person": {"email": emails[name]}, "properties": {"cart_id": name, **properties}}

    async def ended() -> bool:
        page = await call("GET", "/journeys/cart/enrollments")
        return len(page["items"]) == 3 and all(item["ended_at"] for item in page["items"])

    async with running.worker(), running.relaying():
        await call("POST", "/events/batch", {"events": [event("cart.updated", name, total=9) for name in emails]})
        await call("POST", "/events", event("order.placed", "buyer", total="9.00", currency="EUR"))
        await eventually(ended)
    passages = {
        item["person_id"]: await call("GET", f"/enrollments/{item['id']}")
        for item in (await call("GET", "/journeys/cart/enrollments"))["items"]
    }
    assert passages[ids["buyer"]]["reason"] == "goal"
    assert [step["node"] for step in passages[ids["plain"]]["steps"]] == [
        *("bought", "big", "remind", "morning", "mark", "done"),
    ]
    assert [step["outcome"] for step in passages[ids["vip"]]["steps"]] == [
        *("timed_out", "branch_0", "done", "elapsed", "done", "finished"),
    ]
    for name, reminded in (("buyer", None), ("plain", True), ("vip", True)):
        assert (await call("GET", f"/people/{ids[name]}"))["attributes"].get("cart_reminded") is reminded
    assert {str(message.person_id) for message in await running.marketing.messages()} == {ids["plain"], ids["vip"]}


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        ({"mode": "never"}, 1),
        ({"mode": "when_not_active"}, 3),
        ({"mode": "always"}, 3),
        ({"mode": "always", "min_gap": "P1D"}, 1),
    ],
    ids=["once", "after the exit", "every event", "with a cooldown"],
)
async def test_14_entering_again_is_as_the_journey_says(
    running: Platform, again: dict[str, str], expected: int
) -> None:
    """Dittofeed: "run multiple" did not run again before the person had left the segment."""
    marketing = running.marketing
    await marketing.template("hello")
    version = await marketing.journey(walk(entry={"event": "form.submitted", "again": again}, send=SEND))
    person = await marketing.person()
    async with running.worker():
        for number in range(3):
            await post(marketing, NewEvent("form.submitted", person))
            await running.relay()
            await eventually(lambda number=number: all_ended(marketing, version, min(number + 1, expected)))
    assert len(await marketing.messages()) == expected


@pytest.mark.parametrize("seed", range(12))
async def test_15_entering_again_holds_for_any_course_of_events(running: Platform, seed: int) -> None:
    """Mautic: re-entry broken, earlier always on; users deleted rows by SQL."""
    marketing, chance = running.marketing, random.Random(seed)
    mode = chance.choice(["never", "when_not_active", "always"])
    again = {"mode": mode, **({"min_gap": "PT1H"} if chance.random() < 0.5 else {})}
    entry = {"event": "cart.updated", "key": "event.properties.cart_id", "again": again}
    version = await marketing.journey({**walk(entry=entry, wait=WAIT), "goal": {"event": "order.placed"}})
    people = await marketing.people(2)
    entered: dict[tuple[UUID, str], int] = {}
    inside: dict[tuple[UUID, str], int] = {}
    recent: set[tuple[UUID, str]] = set()
    for _ in range(10):
        batch: list[NewEvent] = []
        for _ in range(chance.randint(1, 6)):
            person, cart_id = chance.choice(people), chance.choice("ab")
            if chance.random() < 0.3:
                batch.append(NewEvent("order.placed", person, properties={"total": "1.00", "currency": "EUR"}))
                inside.update({key: 0 for key in inside if key[0] == person})
                continue
            batch.append(NewEvent("cart.updated", person, properties={"cart_id": cart_id}))
            key = person, cart_id
            allowed = {"never": not entered.get(key), "when_not_active": not inside.get(key), "always": True}[mode]
            if allowed and not ("min_gap" in again and key in recent):
                entered[key] = entered.get(key, 0) + 1
                inside[key] = inside.get(key, 0) + 1
                recent.add(key)
        await post(marketing, *batch)
        await running.relay()
        if chance.random() < 0.3:  # time passes
            await _an_hour_ago(marketing)
            recent.clear()
    rows = await marketing.enrollments(version)
    found: dict[tuple[UUID, str], int] = {}
    still: dict[tuple[UUID, str], int] = {}
    for row in rows:
        key = row.subject_id, row.entry_key
        found[key] = found.get(key, 0) + 1
        still[key] = still.get(key, 0) + (row.ended_at is None)
    assert found == entered
    assert still == {key: inside.get(key, 0) for key in found}


async def _an_hour_ago(marketing: Marketing) -> None:
    async with marketing.session() as session:
        await session.execute(
            update(Enrollment)
            .where(Enrollment.tenant_id == marketing.tenant_id)
            .values(entered_at=Enrollment.entered_at - func.make_interval(0, 0, 0, 0, 1, 1))
        )


async def test_16_entering_while_inside_leaves_one_run(running: Platform) -> None:
    """Mautic: entering again left both runs scheduled."""
    marketing = running.marketing
    await marketing.template("hello")
    entry = {"event": "form.submitted", "again": {"mode": "when_not_active"}}
    version = await marketing.journey(walk(entry=entry, nap=NAP, send=SEND))
    person = await marketing.person()
    for _ in range(3):
        await post(marketing, NewEvent("form.submitted", person))
        await running.relay()
    assert len(await marketing.cohorts(version)) == 1
    async with running.worker():
        await eventually(lambda: all_ended(marketing, version, 1))
    assert len(await marketing.messages()) == 1


LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "P9D", "matched": "send", "timed_out": "done"}


async def test_20_a_merge_keeps_the_companies_the_log_and_the_journeys_and_who_is_known(
    running: Platform, client: AsyncClient
) -> None:
    """Mautic: a merge lost companies, audit and devices, and the anonymous one won."""
    marketing = running.marketing
    await marketing.template("hello")
    entry = {"event": "cart.updated", "again": {"mode": "never"}}
    version = await marketing.journey(walk(entry=entry, wait=LISTEN, send=SEND))
    browser = {"anonymous_id": "browser"}
    for event_type in ("page.viewed", "cart.updated"):
        seen = await client.post("/v1/events", json={"type": event_type, "person": browser})
        assert seen.status_code == 202
    await running.relay()
    async with running.worker():
        (visitor,) = (await client.get("/v1/people", params=browser)).json()["items"]
        company = (await client.post("/v1/organizations", json={"name": "Shop", "is_customer": True})).json()
        link = {"person_id": visitor["id"], "kind": "employee", "is_primary": True}
        linked = await client.post(f"/v1/organizations/{company['id']}/people", json=link)
        assert linked.status_code == 201, linked.text
        known = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()
        await marketing.until_waiting(1)
        both = {"type": "signed.in", "person": browser | {"email": "ann@shop.example"}}
        assert (await client.post("/v1/events", json=both)).status_code == 202
        merged = (await client.get(f"/v1/people/{visitor['id']}")).json()
        assert (merged["id"], merged["merged_ids"]) == (known["id"], [visitor["id"]]), "who is known stays"
        order = {"total": "5.00", "currency": "EUR"}
        placed = {"type": "order.placed", "person": {"email": "ann@shop.example"}, "properties": order}
        assert (await client.post("/v1/events", json=placed)).status_code == 202
        await running.relay()
        await eventually(lambda: all_ended(marketing, version, 1))
    (message,) = await marketing.messages()
    assert (str(message.person_id), message.address) == (known["id"], "ann@shop.example")
    employer = await client.get(f"/v1/people/{known['id']}/organizations")
    assert [item["organization_id"] for item in employer.json()["items"]] == [company["id"]], employer.text
    told = [entry["type"] for entry in (await client.get(f"/v1/people/{known['id']}/timeline")).json()["items"]]
    assert {"page.viewed", "cart.updated", "person.merged"} <= set(told)
    assert told.count("person.created") == 2, "the log of both is told"


async def test_20_whoever_both_are_inside_goes_on_once(running: Platform, client: AsyncClient) -> None:
    """A passage that a merge ended is over for its workflow too."""
    marketing = running.marketing
    await marketing.template("hello")
    version = await marketing.journey(walk(entry={"api": True, "again": {"mode": "never"}}, wait=LISTEN, send=SEND))
    winner, loser = await marketing.people(2)
    await marketing.enroll(version, [winner, loser], again=version.definition.by_api.again)
    await running.deliver()
    async with running.worker():
        await marketing.until_waiting(2)
        ids = {"winner_id": str(winner), "loser_id": str(loser)}
        assert (await client.post("/v1/people/merge", json=ids)).status_code == 201
        order = {"total": "5.00", "currency": "EUR"}
        await post(marketing, NewEvent("order.placed", winner, properties=order))
        await running.relay()
        (cohort,) = await marketing.cohorts(version)
        await running.finished(cohort)
    assert len(await marketing.messages()) == 1
    assert await marketing.waiters() == []


async def test_21_two_who_are_known_are_never_merged_and_no_consent_leaks(client: AsyncClient) -> None:
    """Mautic: two people who signed in on one browser became one, with the consent of either."""
    choice = {"channel": "email", "topic": "news"}
    ann = {"email": "ann@shop.example", "anonymous_id": "library", "consent": [choice | {"status": "opted_in"}]}
    bob = {"email": "bob@shop.example", "consent": [choice | {"status": "opted_out"}]}
    ids = [(await client.post("/v1/people", json=person)).json()["id"] for person in (ann, bob)]
    shared = {"email": "bob@shop.example", "anonymous_id": "library"}
    for path, body in (("people", shared), ("events", {"type": "signed.in", "person": shared})):
        refused = await client.post(f"/v1/{path}", json=body)
        assert (refused.status_code, sorted(refused.json()["person_ids"])) == (409, sorted(ids))
    for person_id, status in zip(ids, ("opted_in", "opted_out"), strict=True):
        (consent,) = (await client.get(f"/v1/people/{person_id}")).json()["consent"]
        assert consent["status"] == status
    merged = await client.post("/v1/people/merge", json={"winner_id": ids[0], "loser_id": ids[1]})
    (consent,) = (await client.get(f"/v1/people/{ids[1]}")).json()["consent"]
    assert consent["status"] == "opted_out", "of both the stricter holds"
    assert (await client.post(f"/v1/people/merges/{merged.json()['id']}/undo")).status_code == 200
    (consent,) = (await client.get(f"/v1/people/{ids[0]}")).json()["consent"]
    assert consent["status"] == "opted_in"


async def test_22_an_import_has_no_row_limit_makes_no_duplicates_and_resumes(
    client: AsyncClient, running: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty: 2,000 rows at most where a user had 750,000. Mautic: duplicates by email; 2 to 10 contacts a second."""
    database, tenant_id = running.marketing.database, running.marketing.tenant_id
    rows = [f"P{n % 12_000}@example.com,{n % 12_000}" for n in range(24_000)]  # everybody twice, far apart
    content = "\n".join(["email,n", *rows])
    answer = await client.post("/v1/people/imports", content=content, headers={"Content-Type": "text/csv"})
    made = answer.json()
    ref = ImportRef(tenant_id=tenant_id, import_id=UUID(made["id"]))
    pages = 0
    real = import_run.apply

    async def dies(session: TenantSession, job: import_run.Job, page: import_run.ParsedPage) -> bool:
        nonlocal pages
        pages += 1
        more = await real(session, job, page)
        if pages in {2, 3}:
            raise ConnectionResetError("with all of the page written and nothing committed")
        return more

    monkeypatch.setattr(import_run, "apply", dies)
    activity = ImportActivities(database).run
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await ActivityEnvironment().run(activity, ref)
    assert (await ActivityEnvironment().run(activity, ref)).done
    found = (await client.get(f"/v1/people/imports/{made['id']}")).json()
    assert (found["status"], found["created"], found["unchanged"], found["rejected"]) == ("finished", 12_000, 12_000, 0)
    async with running.marketing.session() as session:
        people = await session.scalar(select(func.count()).where(Person.tenant_id == tenant_id))
    assert people == 12_000
