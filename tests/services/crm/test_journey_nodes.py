"""What journeys do in sales: each node once for each member, for deals and for people, with or without a person."""

from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy import select, text

from core.actor import CLI
from core.database import Database
from journeys.members import encode
from models import Deal, EnrollmentStep, Notification, OutgoingCall, Person, Task
from services.crm import calls, deals, journey_nodes
from services.crm.stage_plans import NewStage
from services.events.bus import EventRow
from services.journeys import steps
from services.journeys.steps import StepOutcome
from tests.factories.marketing import Marketing, Walking, event, walk
from tests.factories.selling import Selling
from tests.factories.teammates import add_user

ENTRY = {"event": "deal.stage_entered", "again": {"mode": "always"}}


def deal_walk(**nodes: dict[str, Any]) -> dict[str, Any]:
    return {**walk(entry=ENTRY, **nodes), "subject": "deal"}


async def act(cohort: Walking, node: str, *, attempt: int = 1, onward: bool = False) -> StepOutcome:
    """Take a step as the worker of sales does."""
    async with cohort.marketing.session() as session:
        step = steps.Step(
            cohort.version, "act", node, 1, timed_out=False, attempt=attempt, actions=journey_nodes.ACTIONS
        )
        return await steps.run(session, steps.going_on(step) if onward else step, cohort.members())


async def detail(cohort: Walking, slot: int, node: str) -> Any:  # noqa: ANN401 - JSON
    row = await cohort.row(slot)
    async with cohort.marketing.session() as session:
        return (await session.get_one(EnrollmentStep, (session.tenant_id, row.id, node, 1))).detail


async def rows(marketing: Marketing, entity: Any) -> list[Any]:  # noqa: ANN401 - a table's rows
    async with marketing.session() as session:
        found = await session.scalars(select(entity).where(entity.tenant_id == session.tenant_id).order_by(entity.id))
        return list(found)


async def test_deals_walk_with_and_without_a_person(marketing: Marketing, selling: Selling) -> None:
    stages = await selling.pipeline()
    person = await marketing.person(locale="de", first_name="Ann")
    with_person = await selling.deal(stages["new"], person_id=person, amount_minor=200_000)
    alone = await selling.deal(stages["new"], amount_minor=50_000)
    branch = {
        "type": "branch",
        "branches": [
            {"when": {"not": {"field": "person.is_customer", "op": "=", "value": True}}, "next": "size"},
        ],
        "otherwise": "done",
    }
    size = {
        "type": "branch",
        "branches": [{"when": {"field": "deal.amount", "op": ">", "value": 1000}, "next": "task"}],
        "otherwise": "wait",
    }
    wait = {"type": "wait", "until_time": "09:00", "zone": "person", "next": "done"}
    task = {"type": "create_task", "title": "Call {{ person.first_name }} on {{ deal.title }}", "next": "done"}
    cohort = await marketing.walking(deal_walk(fork=branch, size=size, task=task, wait=wait), [with_person, alone])
    first, second = await cohort.rows()
    assert (first.subject_type, first.subject_id, first.person_id) == ("deal", with_person, person)
    assert (second.subject_id, second.person_id) == (alone, None)
    # who is not there misses every field, so `not` holds
    assert (await act(cohort, "fork")).outcomes == {"branch_0": 0b11}
    assert (await act(cohort, "size")).outcomes == {"branch_0": 0b01, "otherwise": 0b10}
    assert (await act(cohort, "task")).outcomes == {"done": 0b01}
    (made,) = await rows(marketing, Task)
    assert (made.title, made.deal_id, made.person_id) == ("Call Ann on Shelves", with_person, person)
    async with marketing.session() as session:
        step = steps.Step(
            cohort.version, "plan_wait", "wait", 1, timed_out=False, attempt=1, actions=journey_nodes.ACTIONS
        )
        planned = await steps.run(session, step, cohort.members([1]))
    assert list(planned.waits.values()) == [0b10]


async def test_events_of_deals_let_them_in_and_end_their_passages(marketing: Marketing, selling: Selling) -> None:
    stages = await selling.pipeline()
    definition = deal_walk(wait={"type": "wait", "for": "P1D", "next": "done"})
    left = {"event": "deal.stage_left", "where": {"field": "event.properties.stage", "op": "=", "value": "new"}}
    where = {"field": "deal.amount", "op": ">", "value": 100}
    version = await marketing.journey(definition | {"entry": {**ENTRY, "where": where}, "exit_when": [left]})
    person = await marketing.person()
    big = [await selling.deal(stages["new"], amount_minor=20_000, person_id=person) for _ in range(3)]
    small = await selling.deal(stages["new"], amount_minor=10_000)

    def of(kind: str, deal_id: UUID) -> EventRow:
        told = event(kind, deal_id, stage="new")
        return replace(told, subject_type="deal", person_id=None if deal_id == small else person)

    await marketing.hear(*(of("deal.stage_entered", deal_id) for deal_id in [*big, small]))
    assert {row.subject_id for row in await marketing.enrollments(version)} == set(big)
    assert len(await marketing.cohorts(version)) == 1
    await marketing.hear(of("deal.stage_left", big[0]), of("deal.deleted", big[1]))
    ended = {row.subject_id: (row.status, row.reason) for row in await marketing.enrollments(version)}
    assert ended == {
        big[0]: ("exited", "exit_when: deal.stage_left"),
        big[1]: ("exited", "deleted"),
        big[2]: ("waiting", None),
    }


async def test_a_deal_that_is_deleted_leaves_where_it_waits_whatever_waits_for_that(
    marketing: Marketing, selling: Selling
) -> None:
    stages = await selling.pipeline()
    deal_id, person = await selling.deal(stages["new"]), await marketing.person()
    listen = {"type": "wait_for_event", "event": "deal.deleted", "timeout": "P1D", "timed_out": "done"}
    nodes = {"listen": {**listen, "matched": "won"}, "won": {"type": "goal", "name": "won"}}
    of_deal = await marketing.walking(deal_walk(**nodes), [deal_id])
    version = await marketing.journey(walk(**nodes), key="people")
    await marketing.enroll(version, [person])
    await marketing.hear(replace(event("deal.deleted", deal_id), subject_type="deal", person_id=person))
    passed = [await of_deal.row(), *await marketing.enrollments(version)]
    assert [(row.node, row.status, row.reason) for row in passed] == [
        ("listen", "exited", "deleted"),
        ("won", "completed", "won"),
    ]
    assert await marketing.waiters() == []
    assert await marketing.owed(of_deal) == [("leave", [0])]


async def test_a_journey_of_people_hears_what_happens_to_their_deals(marketing: Marketing, selling: Selling) -> None:
    stages = await selling.pipeline()
    version = await marketing.journey(
        walk(entry={"event": "deal.won"}, wait={"type": "wait", "for": "P1D", "next": "done"})
    )
    person = await marketing.person()
    deal_id = await selling.deal(stages["new"], person_id=person)
    await marketing.hear(replace(event("deal.won", deal_id), subject_type="deal", person_id=person))
    (row,) = await marketing.enrollments(version)
    assert (row.subject_type, row.subject_id, row.person_id) == ("person", person, person)


async def test_a_person_s_journey_makes_a_deal_and_moves_it_once(marketing: Marketing, selling: Selling) -> None:
    await selling.pipeline()
    await selling.rate("USD", "0.5")
    create = {
        "type": "create_deal",
        "pipeline": "sales",
        "title": "For {{ person.first_name }}",
        "amount": "12.50",
        "currency": "USD",
        "close_in": "P10D",
        "next": "move",
    }
    move = {"type": "move_deal", "pipeline": "sales", "stage": "won", "next": "done"}
    one = await marketing.person(first_name="Bo")
    cohort = await marketing.walking(walk(create=create, move=move), [one])
    first = await act(cohort, "create")
    assert await act(cohort, "create", attempt=2) == first
    (deal,) = await rows(marketing, Deal)
    assert (deal.title, deal.person_id, deal.amount_minor, deal.base_minor) == ("For Bo", one, 1250, 625)
    assert await detail(cohort, 0, "create") == {"deal_id": str(deal.id)}
    await act(cohort, "move")
    await act(cohort, "move", attempt=2)
    moved = await selling.row(deal.id)
    assert (moved.status, moved.version) == ("won", 2)
    assert await detail(cohort, 0, "move") == {"deal_id": str(deal.id)}


async def test_who_has_no_deal_goes_on_and_the_step_says_so(marketing: Marketing, selling: Selling) -> None:
    await selling.pipeline()
    move = {"type": "move_deal", "pipeline": "sales", "stage": "won", "next": "done"}
    cohort = await marketing.walking(walk(move=move), await marketing.people(1))
    assert (await act(cohort, "move")).outcomes == {"done": 1}
    assert await detail(cohort, 0, "move") == {"refused": "no_deal"}


async def test_owners_are_given_in_turns_that_go_on(marketing: Marketing, selling: Selling, database: Database) -> None:
    stages = await selling.pipeline()
    users = [await add_user(database, marketing.tenant_id, "sales") for _ in range(3)]
    ids = [user.id for user in users]
    node = {"type": "assign_owner", "among": [user.email for user in users], "next": "tell"}
    tell = {"type": "notify", "title": "Yours: {{ deal.title }}", "next": "call"}
    call = {"type": "webhook", "url": "https://example.com/hook", "body": {"a": 1}, "next": "set"}
    set_ = {"type": "update_deal", "set": {"probability": 40, "attributes.hot": True}, "next": "done"}
    version = await marketing.journey(deal_walk(give=node, tell=tell, call=call, set=set_))
    for number in (2, 2):
        made = [await selling.deal(stages["new"]) for _ in range(number)]
        await marketing.enroll(version, made)
    for cohort in await marketing.cohorts(version):
        for name in ("give", "tell", "call", "set"):
            await act(cohort, name)
            await act(cohort, name, attempt=2)
    given = sorted((deal.id, deal.owner_id) for deal in await rows(marketing, Deal))
    assert [owner for _, owner in given] == [ids[0], ids[1], ids[2], ids[0]]
    assert all(deal.probability == 40 and deal.attributes == {"hot": True} for deal in await rows(marketing, Deal))
    told = await rows(marketing, Notification)
    assert sorted(note.title for note in told) == ["Yours: Shelves"] * 4
    calls = await rows(marketing, OutgoingCall)
    assert [(one.body["data"], one.body["person"]) for one in calls] == [({"a": 1}, None)] * 4
    assert all(one.body["deal"]["stage"] == "new" for one in calls)


async def test_no_cohort_waits_for_another_s_turns(marketing: Marketing, selling: Selling, database: Database) -> None:
    stages = await selling.pipeline()
    users = [await add_user(database, marketing.tenant_id, "sales") for _ in range(3)]
    version = await marketing.journey(
        deal_walk(give={"type": "assign_owner", "among": [user.email for user in users], "next": "done"})
    )
    deals_of = [[await selling.deal(stages["new"]) for _ in range(number)] for number in (2, 2)]
    for made in deals_of:
        await marketing.enroll(version, made)

    async def apart(statement: str, *arguments: object) -> Any:  # noqa: ANN401 - as the protocol has it
        async with database.hot(marketing.tenant_id) as connection:
            return await connection.fetchval(statement, *arguments)

    step = steps.Step(version, "act", "give", 1, timed_out=False, attempt=1, actions=journey_nodes.ACTIONS, apart=apart)
    one, other = await marketing.cohorts(version)
    async with marketing.session() as session, marketing.session() as beside:
        await steps.run(session, step, one.members())
        await steps.run(beside, step, other.members())
    owner_of = {deal.id: deal.owner_id for deal in await rows(marketing, Deal)}
    given = [owner_of[deal_id] for made in deals_of for deal_id in made]
    assert given == [users[0].id, users[1].id, users[2].id, users[0].id]


async def test_what_follows_without_a_wait_is_done_at_once(
    marketing: Marketing, selling: Selling, database: Database
) -> None:
    stages = await selling.pipeline()
    ann = await add_user(database, marketing.tenant_id, "sales")
    nodes: dict[str, dict[str, Any]] = {
        "big": {
            "type": "branch",
            "branches": [{"when": {"field": "deal.amount", "op": ">", "value": 1000}, "next": "give"}],
            "otherwise": "done",
        },
        "give": {"type": "assign_owner", "among": [ann.email], "next": "set"},
        "set": {"type": "update_deal", "set": {"title": "Big", "attributes.hot": True}, "next": "call"},
        "call": {"type": "create_task", "title": "Call about {{ deal.title }}", "next": "tell"},
        "tell": {"type": "notify", "title": "Yours: {{ deal.title }}", "next": "move"},
        "move": {"type": "move_deal", "stage": "won", "next": "done"},
    }
    big = await selling.deal(stages["new"], amount_minor=200_000)
    small = await selling.deal(stages["new"], amount_minor=500)
    cohort = await marketing.walking(deal_walk(**nodes), [big, small])
    done = await act(cohort, "big", onward=True)
    assert (done.outcomes, done.arrived) == ({"otherwise": 0b10}, {("move", 1): 0b01}), "a move is for itself"
    (task,) = await rows(marketing, Task)
    assert (task.title, task.owner_id) == ("Call about Big", ann.id), "each node sees what those before it did"
    assert {note.title for note in await rows(marketing, Notification)} == {"Task: Call about Big", "Yours: Big"}
    first, second = await cohort.rows()
    assert (first.node, first.status, second.node, second.status) == ("move", "active", "done", "completed")
    assert await detail(cohort, 0, "give") == {"owner_id": str(ann.id)}
    assert await detail(cohort, 0, "set") is None
    again = await act(cohort, "big", attempt=2, onward=True)
    assert (again.outcomes, again.arrived) == ({"branch_0": 0b01, "otherwise": 0b10}, {})
    assert (await act(cohort, "give", onward=True)).outcomes == {"done": 0b01}
    assert len(await rows(marketing, Task)) == 1


async def test_changes_of_a_deal_that_follow_each_other_are_one(
    marketing: Marketing, selling: Selling, database: Database
) -> None:
    required = NewStage(key="new", name="New", required_fields=["attributes.budget"])
    stages = await selling.pipeline(stages=[required])
    ann = await add_user(database, marketing.tenant_id, "sales")
    nodes: dict[str, dict[str, Any]] = {
        "give": {"type": "assign_owner", "among": [ann.email], "next": "empty"},
        "empty": {"type": "update_deal", "set": {"attributes.budget": None}, "next": "call"},
        "call": {"type": "create_task", "title": "Call about {{ deal.title }}", "next": "set"},
        "set": {"type": "update_deal", "set": {"attributes.hot": True, "probability": 40}, "next": "tell"},
        "tell": {"type": "notify", "title": "{{ deal.probability }} %", "next": "done"},
    }
    made = [await selling.deal(stages["new"], attributes={"budget": 5}, owner_id=owner) for owner in (None, ann.id)]
    cohort = await marketing.walking(deal_walk(**nodes), made)
    assert (await act(cohort, "give", onward=True)).arrived == {("done", 1): 0b11}
    refused = await detail(cohort, 0, "empty")
    assert "attributes.budget" in refused["refused"], "what is refused is refused by itself"
    for deal in await rows(marketing, Deal):
        assert (deal.owner_id, deal.attributes, deal.probability) == (ann.id, {"budget": 5, "hot": True}, 40)
        assert (deal.version, deal.touched_at) == (2, deal.updated_at)
    assert {task.owner_id for task in await rows(marketing, Task)} == {ann.id}, "an owner is known before it is written"
    assert {note.title for note in await rows(marketing, Notification)} >= {"40 %"}
    async with marketing.session() as session:
        told = await session.execute(
            text(
                "SELECT properties->'fields' FROM event WHERE tenant_id = :tenant AND type = 'deal.updated' ORDER BY 1"
            ),
            {"tenant": session.tenant_id},
        )
        logged = await session.execute(
            text("SELECT changes FROM activity WHERE tenant_id = :tenant AND type = 'deal.updated'"),
            {"tenant": session.tenant_id},
        )
    changed = ["attributes.hot", "probability"]
    assert sorted(told.scalars()) == [["attributes.hot", "owner_id", "probability"], changed]
    assert sorted(map(sorted, logged.scalars())) == [["attributes.hot", "owner_id", "probability"], changed]


async def test_a_task_touches_a_deal_that_comes_back_to_what_it_was(marketing: Marketing, selling: Selling) -> None:
    stages = await selling.pipeline()
    nodes: dict[str, dict[str, Any]] = {
        "set": {"type": "update_deal", "set": {"attributes.hot": True}, "next": "call"},
        "call": {"type": "create_task", "title": "Call", "next": "back"},
        "back": {"type": "update_deal", "set": {"attributes.hot": None}, "next": "done"},
    }
    deal_id = await selling.deal(stages["new"])
    before = await selling.row(deal_id)
    cohort = await marketing.walking(deal_walk(**nodes), [deal_id])
    assert (await act(cohort, "set", onward=True)).arrived == {("done", 1): 1}
    after = await selling.row(deal_id)
    assert (after.version, after.touched_at > before.touched_at) == (before.version, True)


async def test_who_comes_to_a_wait_for_an_event_comes_by_one_node(marketing: Marketing, selling: Selling) -> None:
    stages = await selling.pipeline()
    heard = {"type": "wait_for_event", "event": "deal.updated", "timeout": "P1D", "matched": "done"}
    names = ("a", "b", "c", "wait")
    nodes = {
        name: {"type": "update_deal", "set": {"attributes.at": name}, "next": following}
        for name, following in pairwise(names)
    }
    definition = deal_walk(**nodes, wait=heard | {"timed_out": "done"})
    cohort = await marketing.walking(definition, [await selling.deal(stages["new"])])
    assert (await act(cohort, "a", onward=True)).arrived == {("c", 1): 1}
    assert (await act(cohort, "c", onward=True)).outcomes == {"done": 1}


async def test_a_webhook_with_a_way_for_failures_waits_for_its_call(marketing: Marketing) -> None:
    hook = {"type": "webhook", "url": "https://example.com/hook", "next": "done", "failed": "sorry"}
    sorry = {"type": "notify", "title": "It failed", "next": "done"}
    cohort = await marketing.walking(walk(hook=hook, sorry=sorry), await marketing.people(3))
    assert await act(cohort, "hook") == StepOutcome(listening=0b111)
    assert await act(cohort, "hook", attempt=2) == StepOutcome(listening=0b111)
    ids = {row.id: row.slot for row in await cohort.rows()}
    by_slot = {ids[UUID(one.body["enrollment_id"])]: one for one in await rows(marketing, OutgoingCall)}
    assert sorted(by_slot) == [0, 1, 2]
    for slot, status in ((0, 204), (1, 410), (2, 500)):
        call = by_slot[slot]
        due = calls.DueCall(marketing.tenant_id, call.id, call.url, call.body, 1)
        async with marketing.session() as session:
            await calls.settle(session, due, {"status": status, "body": "so"})
    told = [(each.kind, each.node, each.visit, each.members) for each in await marketing.told(cohort)]
    assert told == [("matched", "hook", 1, encode(1 << slot, 3)) for slot in (0, 1)]
    done = StepOutcome(outcomes={"done": 0b001, "failed": 0b010}, listening=0b100)
    assert await cohort.run("leave_wait_for_event", "hook") == done
    assert await cohort.run("leave_wait_for_event", "hook") == done
    assert await detail(cohort, 1, "hook") == {
        "call_id": str(by_slot[1].id),
        "answer": {"status": 410, "body": "so"},
    }
    assert [row.node for row in await cohort.rows()] == ["done", "sorry", "hook"]


async def test_people_get_owners_too(marketing: Marketing, database: Database) -> None:
    user = await add_user(database, marketing.tenant_id, "sales")
    node = {"type": "assign_owner", "among": [user.email], "next": "done"}
    (person,) = await marketing.people(1)
    await act(await marketing.walking(walk(give=node), [person]), "give")
    (row,) = await rows(marketing, Person)
    assert row.owner_id == user.id


async def test_a_journey_lets_into_itself_ten_times_at_most(marketing: Marketing) -> None:
    node = {"type": "enroll", "journey": "journey", "next": "done"}
    loaded = (await marketing.walking(walk(on=node), await marketing.people(1))).version
    for _ in range(12):
        for cohort in await marketing.cohorts(loaded):
            await act(cohort, "on")
    passages = await marketing.enrollments(loaded)
    assert len(passages) == 11
    assert [row.entry.get("enrolled", {}).get("depth", 0) for row in passages] == list(range(11))
    last = (await marketing.cohorts(loaded))[-1]
    assert await detail(last, 0, "on") == {"journey": "journey", "skipped": "too_deep"}


async def test_a_deal_that_is_gone_is_left_out(marketing: Marketing, selling: Selling) -> None:
    stages = await selling.pipeline()
    deal_id = await selling.deal(stages["new"])
    task = {"type": "create_task", "title": "Call", "next": "done"}
    cohort = await marketing.walking(deal_walk(task=task), [deal_id])
    async with marketing.session() as session:
        await deals.remove(session, deal_id, by=CLI)
    assert (await act(cohort, "task")).outcomes == {"done": 1}
    assert await rows(marketing, Task) == []


async def test_a_webhook_about_a_deal_that_is_gone_has_failed(marketing: Marketing, selling: Selling) -> None:
    stages = await selling.pipeline()
    deal_ids = [await selling.deal(stages["new"]) for _ in range(2)]
    hook = {"type": "webhook", "url": "https://example.com/hook", "next": "done", "failed": "sorry"}
    sorry = {"type": "notify", "title": "It failed", "next": "done"}
    cohort = await marketing.walking(deal_walk(hook=hook, sorry=sorry), deal_ids)
    async with marketing.session() as session:
        await deals.remove(session, deal_ids[0], by=CLI)
    gone = StepOutcome(outcomes={"failed": 0b01}, listening=0b10)
    assert await act(cohort, "hook") == gone
    assert await act(cohort, "hook", attempt=2) == gone
    assert [row.node for row in await cohort.rows()] == ["sorry", "hook"]
    assert len(await rows(marketing, OutgoingCall)) == 1
