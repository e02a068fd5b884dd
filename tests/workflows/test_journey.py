"""The journey's workflow on a real Temporal and a real store."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio.client import WorkflowExecutionStatus

from contracts.journeys import Told
from core.actor import CLI
from services.commerce import carts, reserving
from services.commerce.cart_lines import Wanted
from services.commerce.reserving import Line
from services.events.publish import NewEvent, publish
from services.journeys import endings
from services.journeys.members import ENROLLMENT
from tests.eventually import eventually
from tests.factories.goods import goods
from tests.factories.marketing import Marketing, Walking, walk
from tests.factories.ordering import Ordering
from tests.factories.running import Hasty, Platform, members
from tests.journeys.examples import ABANDONED_CART

SHORT: dict[str, Any] = {
    **ABANDONED_CART,
    "nodes": {
        **ABANDONED_CART["nodes"],
        "bought": {**ABANDONED_CART["nodes"]["bought"], "timeout": "PT2S"},
        "morning": {"type": "wait", "for": "PT1S", "next": "mark"},
    },
}
"""The abandoned cart with an hour of two seconds."""
LONG = {"type": "wait", "for": "P30D", "next": "mark"}
MARK = {"type": "update_person", "set": {"attributes.seen": True}, "next": "done"}
SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
LISTEN = {"type": "wait_for_event", "event": "order.placed", "timeout": "P30D", "matched": "mark", "timed_out": "done"}
FORK = {
    "type": "branch",
    "branches": [
        {"when": {"field": "person.locale", "op": "=", "value": "de"}, "next": "mark"},
        {"when": {"field": "person.locale", "op": "=", "value": "fr"}, "next": "pause"},
    ],
    "otherwise": "done",
}


async def post(marketing: Marketing, *events: NewEvent) -> None:
    async with marketing.session() as session:
        await publish(session, events)


async def cart(marketing: Marketing, person_id: UUID | None, sku: str = "SHIRT") -> UUID:
    async with marketing.session() as session:
        fields = {} if person_id is None else {"person_id": person_id}
        return (await carts.create(session, fields, [Wanted(sku=sku)], by=CLI)).cart.id


async def buy(marketing: Marketing, cart_id: UUID) -> None:
    """Place the order of a cart as its checkout does."""
    shop = Ordering(marketing.database, marketing.tenant_id)
    async with marketing.session() as session:
        row = await carts.locked(session, cart_id)
        priced = await carts.priced(session, row)
        row.status, row.attempt = "checking_out", 1
        lines = [Line(line.variant_id, line.quantity) for line in priced.lines]
        soon = datetime.now(UTC) + timedelta(minutes=10)
        await reserving.reserve(session, cart_id=cart_id, attempt=1, lines=lines, expires_at=soon)
    await shop.confirm(cart_id, priced, await shop.payment(cart_id, priced.total_minor))


def order(person_id: UUID, cart_id: str = "c1") -> NewEvent:
    return NewEvent("order.placed", person_id, properties={"cart_id": cart_id, "total": "10.00", "currency": "EUR"})


async def paths(cohort: Walking) -> dict[int, list[str]]:
    """Return each member's way, as node:outcome, and how it ended."""
    found: dict[int, list[str]] = {}
    for row in await cohort.rows():
        steps = await cohort.marketing.steps(row.id)
        found[row.slot] = [*(f"{node}:{outcome}" for node, _, outcome in steps), f"{row.status}:{row.reason}"]
    return found


async def test_a_cart_is_waited_for_until_it_is_bought_or_abandoned(running: Platform) -> None:
    marketing = running.marketing
    for key in ("cart_vip", "cart_reminder"):
        await marketing.template(key)
    version = await marketing.journey(SHORT)
    buyer, plain = await marketing.people(2)
    vip = await marketing.person(attributes={"vip": True})
    async with marketing.session() as session:
        await goods(session, pieces=5)
        await goods(session, "GIFT", 0)
    async with running.worker(), running.relaying():
        guest = await cart(marketing, None)
        bought = await cart(marketing, buyer)
        await cart(marketing, vip)
        await cart(marketing, vip, "GIFT")  # it costs nothing
        async with marketing.session() as session:
            await carts.change(session, guest, {"person_id": plain}, by=CLI)
        await eventually(lambda: marketing.cohorts(version))
        await post(marketing, order(buyer, "x"))
        await buy(marketing, bought)
        for cohort in await marketing.cohorts(version):
            await eventually(lambda cohort=cohort: started(running, cohort))
            await running.finished(cohort)
    ways = {row.subject_id: await marketing.steps(row.id) for row in await marketing.enrollments(version)}
    ended = {row.subject_id: (row.status, row.reason) for row in await marketing.enrollments(version)}
    assert ended == {
        buyer: ("completed", "goal"),
        plain: ("completed", "finished"),
        vip: ("completed", "finished"),
    }
    assert ways[buyer] == []
    assert [outcome for _, _, outcome in ways[vip]] == ["timed_out", "branch_0", "done", "elapsed", "done"]
    assert [node for node, *_ in ways[plain]] == ["bought", "big", "remind", "morning", "mark"]
    sent = {(message.person_id, message.dedupe_key.split(":")[2]) for message in await marketing.messages()}
    assert sent == {(vip, "vip"), (plain, "remind")}
    assert running.wakes


async def started(running: Platform, cohort: Walking) -> bool:
    found = running.client.list_workflows(f"WorkflowId = '{running.reference(cohort).workflow_id}'")
    return len([workflow async for workflow in found]) > 0


async def test_a_matched_wait_goes_on_at_once(running: Platform) -> None:
    marketing = running.marketing
    people = await marketing.people(3)
    cohort = await marketing.walking(walk(listen=LISTEN, mark=MARK), people)
    async with running.worker():
        await running.deliver()
        await running.settled(cohort, listen={"waiting": 3})
        await post(marketing, order(people[0]), order(people[2]))
        await running.relay()
        progress = await running.settled(cohort, listen={"waiting": 1})
        assert (progress.finished, progress.left) == (2, 0)
        await post(marketing, order(people[1]))
        await running.relay()
        await running.finished(cohort)
    assert set(map(tuple, (await paths(cohort)).values())) == {("listen:matched", "mark:done", "completed:finished")}


async def test_a_match_before_the_workflow_began_is_not_lost(running: Platform) -> None:
    marketing = running.marketing
    people = await marketing.people(2)
    cohort = await marketing.walking(walk(listen=LISTEN, mark=MARK), people)
    await post(marketing, *(order(person) for person in people))
    await running.relay()  # starts the workflow, and signals it before any worker has seen it
    async with running.worker():
        await running.finished(cohort)
    assert set(map(tuple, (await paths(cohort)).values())) == {("listen:matched", "mark:done", "completed:finished")}


async def test_a_match_at_a_wait_not_reached_yet_is_kept(running: Platform) -> None:
    cohort = await running.marketing.walking(
        walk(pause={"type": "wait", "for": "PT1S", "next": "listen"}, listen=LISTEN, mark=MARK),
        await running.marketing.people(2),
    )
    async with running.worker():
        await running.deliver()
        await running.settled(cohort, pause={"waiting": 2})
        await running.tell(cohort, Told(kind="matched", members=members(cohort, 1), node="listen", visit=1))
        await running.settled(cohort, listen={"waiting": 1, "held": 1})
        # Postgres is the judge: it knows of no match, and the early signal did not make one.
        assert [row.node for row in await cohort.rows()] == ["listen", "listen"]


async def test_who_leaves_takes_no_further_step(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(walk(wait=LONG, mark=MARK), await marketing.people(2))
    async with running.worker():
        await running.deliver()
        await running.settled(cohort, wait={"waiting": 2})
        async with marketing.session() as session:
            await endings.end(session, ENROLLMENT.c.slot == 0, status="exited", reason="removed")
        await running.deliver()
        progress = await running.settled(cohort, wait={"waiting": 1})
        assert progress.left == 1
        async with marketing.session() as session:
            await endings.end(session, ENROLLMENT.c.slot == 1, status="exited", reason="removed")
        await running.deliver()
        await running.finished(cohort)
    assert await paths(cohort) == {0: ["exited:removed"], 1: ["exited:removed"]}


async def test_pause_holds_and_resume_goes_on_with_what_fell_due(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(
        walk(wait={"type": "wait", "for": "PT1S", "next": "mark"}, mark=MARK), await marketing.people(2)
    )
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 0)
    async with running.worker():
        await running.deliver()
        await running.settled(cohort, wait={"held": 1})
        assert [row.node for row in await cohort.rows()] == ["wait", "done"]
        async with marketing.session() as session:
            await endings.resume(session, ENROLLMENT.c.slot == 0)
        await running.deliver()
        await running.finished(cohort)
    assert (await paths(cohort))[0] == ["wait:elapsed", "mark:done", "completed:finished"]


async def test_a_parked_member_waits_for_its_retry_and_the_others_go_on(running: Platform) -> None:
    marketing = running.marketing
    cohort = await marketing.walking(walk(mark=MARK), await marketing.people(3))
    row = await cohort.row(1)
    async with running.worker():
        async with marketing.refusing([row.id]):
            await running.deliver()
            progress = await running.settled(cohort, mark={"parked": 1})
        assert progress.finished == 2
        assert (await cohort.row(1)).status == "failed"
        async with marketing.session() as session:
            await endings.retry(session, ENROLLMENT.c.id == row.id)
        await running.deliver()
        await running.finished(cohort)
    assert set(map(tuple, (await paths(cohort)).values())) == {("mark:done", "completed:finished")}


@pytest.mark.parametrize("size", [3, 60], ids=["local activities", "activities"])
async def test_a_step_that_cannot_be_done_parks_everybody_until_it_can(running: Platform, size: int) -> None:
    marketing = running.marketing
    await marketing.template("hello")
    cohort = await marketing.walking(walk(send=SEND), await marketing.people(size))
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 2)
    async with marketing.superuser() as connection:
        await connection.execute("UPDATE template SET key = 'gone' WHERE tenant_id = $1", marketing.tenant_id)
    async with running.worker():
        await running.deliver()
        await running.settled(cohort, send={"parked": size - 1, "held": 1})
        assert (await cohort.row()).problem == {"error": "There is no template hello for email.", "attempt": 1}
        async with marketing.superuser() as connection:
            await connection.execute("UPDATE template SET key = 'hello' WHERE tenant_id = $1", marketing.tenant_id)
        async with marketing.session() as session:
            await endings.retry(session, ENROLLMENT.c.slot >= 0)
            await endings.resume(session, ENROLLMENT.c.slot >= 0)
        await running.deliver()
        await running.finished(cohort)
    assert len(await marketing.messages()) == size


@pytest.mark.parametrize("size", [6, 60], ids=["local activities", "activities"])
async def test_members_go_different_ways(running: Platform, size: int) -> None:
    marketing = running.marketing
    people = [await marketing.person(locale=("de", "fr", "en")[number % 3]) for number in range(size)]
    nodes = {"fork": FORK, "pause": {"type": "wait", "for": "PT1S", "next": "mark"}, "mark": MARK}
    cohort = await marketing.walking(walk(**nodes), people)
    async with running.worker():
        await running.deliver()
        await running.finished(cohort)
    ways = await paths(cohort)
    assert {tuple(ways[slot]) for slot in range(0, size, 3)} == {("fork:branch_0", "mark:done", "completed:finished")}
    assert {tuple(ways[slot]) for slot in range(1, size, 3)} == {
        ("fork:branch_1", "pause:elapsed", "mark:done", "completed:finished")
    }
    assert {tuple(ways[slot]) for slot in range(2, size, 3)} == {("fork:otherwise", "completed:finished")}


async def test_a_worker_that_dies_is_replaced_without_a_trace(running: Platform) -> None:
    """Each worker replays the whole history with every task; the second takes over in the middle of the journey."""
    marketing = running.marketing
    people = await marketing.people(4)
    nodes = {
        "listen": LISTEN,
        "mark": {**MARK, "next": "pause"},
        "pause": {"type": "wait", "for": "PT1S", "next": "last"},
        "last": {"type": "update_person", "set": {"attributes.last": True}, "next": "done"},
    }
    cohort = await marketing.walking(walk(**nodes), people)
    await running.deliver()
    async with running.worker(cached=0):
        await running.settled(cohort, listen={"waiting": 4})
        await post(marketing, order(people[0]))
        await running.relay()
        await eventually(lambda: at(cohort, 0, "pause"))
    await post(marketing, *(order(person) for person in people[1:]))
    await running.relay()
    async with running.worker(cached=0):
        await running.finished(cohort)
    assert set(map(tuple, (await paths(cohort)).values())) == {
        ("listen:matched", "mark:done", "pause:elapsed", "last:done", "completed:finished")
    }


async def at(cohort: Walking, slot: int, node: str) -> bool:
    return (await cohort.row(slot)).node == node


@pytest.mark.parametrize("size", [4, 60], ids=["local activities", "activities"])
async def test_continue_as_new_takes_everybody_along(running: Platform, size: int) -> None:
    marketing = running.marketing
    people = await marketing.people(size)
    nodes = {
        "listen": LISTEN,
        "mark": {**MARK, "next": "pause"},
        "pause": {"type": "wait", "for": "PT1S", "next": "last"},
        "last": {"type": "update_person", "set": {"attributes.last": True}, "next": "done"},
    }
    cohort = await marketing.walking(walk(**nodes), people)
    async with marketing.session() as session:
        await endings.pause(session, ENROLLMENT.c.slot == 3)
    async with running.worker(cached=0, interceptors=[Hasty()]):
        await running.deliver()
        for person in people[:4]:
            await post(marketing, order(person))
            await running.relay()
        await post(marketing, *(order(person) for person in people[4:]))
        await running.relay()
        await running.settled(cohort, listen={"held": 1})
        async with marketing.session() as session:
            await endings.resume(session, ENROLLMENT.c.slot == 3)
        await running.deliver()
        await running.finished(cohort)
        workflow_id = running.reference(cohort).workflow_id
        runs = await eventually(lambda: closed(running, workflow_id))
    assert runs.count(WorkflowExecutionStatus.CONTINUED_AS_NEW) >= 2
    assert runs.count(WorkflowExecutionStatus.COMPLETED) == 1
    assert set(map(tuple, (await paths(cohort)).values())) == {
        ("listen:matched", "mark:done", "pause:elapsed", "last:done", "completed:finished")
    }


async def closed(running: Platform, workflow_id: str) -> list[WorkflowExecutionStatus | None]:
    found = running.client.list_workflows(f"WorkflowId = '{workflow_id}'")
    runs = [run.status async for run in found]
    return runs if WorkflowExecutionStatus.COMPLETED in runs else []


async def test_only_ids_and_counts_are_in_the_history(running: Platform) -> None:
    marketing = running.marketing
    await marketing.template("hello")
    person = await marketing.person(first_name="Secretname")
    cohort = await marketing.walking(walk(send=SEND), [person], entry={"note": "Secretname"})
    async with running.worker():
        await running.deliver()
        await running.finished(cohort)
    history = (await running.handle(cohort).fetch_history()).to_json()
    assert "Secretname" not in history
    assert "@example.com" not in history
