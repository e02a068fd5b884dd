"""Journeys as their makers handle them: drafts, versions, switches."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from core.actor import CLI, Actor
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from models import Activity, Journey, JourneyListener, JourneyVersion
from services.journeys import journeys, versions
from tests.factories.marketing import Marketing, walk
from tests.journeys.examples import ABANDONED_CART

WAIT = {"type": "wait", "for": "P1D", "next": "done"}
SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}
SOMEBODY = Actor("api_key:somebody")


async def create(marketing: Marketing, definition: dict[str, Any] | None = None, key: str = "journey") -> Journey:
    async with marketing.session() as session:
        return await journeys.create(
            session, key=key, name="A journey", definition=definition or walk(wait=WAIT), by=CLI
        )


async def verbs(marketing: Marketing) -> list[tuple[str, str, dict[str, Any]]]:
    async with marketing.session() as session:
        found = await session.scalars(
            select(Activity)
            .where(Activity.tenant_id == marketing.tenant_id, Activity.subject_type == "journey")
            .order_by(Activity.id)
        )
        return [(row.type, row.actor, row.changes) for row in found]


async def test_a_new_journey_is_a_draft_that_nobody_can_enter(marketing: Marketing) -> None:
    journey = await create(marketing)
    assert (journey.status, journey.active_version_id, journey.draft) == ("draft", None, walk(wait=WAIT))


async def test_a_key_is_taken_once_in_a_tenant(marketing: Marketing, other_tenant: Marketing) -> None:
    await create(marketing)
    await create(other_tenant)
    with pytest.raises(ConflictError) as refused:
        await create(marketing)
    assert [(p.field, p.reason) for p in refused.value.errors] == [("key", "is taken")]


async def test_a_journey_is_found_by_id_and_by_key_in_its_tenant_alone(
    marketing: Marketing, other_tenant: Marketing
) -> None:
    journey = await create(marketing)
    async with marketing.session() as session:
        assert (await journeys.find(session, "journey")).id == journey.id
        assert (await journeys.find(session, str(journey.id))).id == journey.id
        with pytest.raises(NotFoundError):
            await journeys.find(session, "another")
    async with other_tenant.session() as session:
        for name in ("journey", str(journey.id)):
            with pytest.raises(NotFoundError):
                await journeys.find(session, name)


async def test_a_journey_whose_key_reads_as_an_id_is_found_by_it(marketing: Marketing) -> None:
    key = new_id().hex
    journey = await create(marketing, key=key)
    async with marketing.session() as session:
        assert (await journeys.find(session, key)).id == journey.id


async def test_every_problem_is_named_with_its_place(marketing: Marketing) -> None:
    wrong = walk(
        send={**SEND, "next": "nowhere"},
        fork={
            "type": "branch",
            "branches": [{"when": {"field": "person.shoe_size", "op": "=", "value": 1}, "next": "done"}],
            "otherwise": "fork",
        },
    )
    with pytest.raises(InvalidError) as refused:
        await create(marketing, wrong)
    assert {p.field for p in refused.value.errors} == {
        "definition.nodes.send.template",
        "definition.nodes.send.next",
        "definition.nodes.fork",
        "definition.nodes.fork.branches.0.when.field",
        "definition.nodes.done",
    }


async def test_publishing_makes_versions_that_never_change(marketing: Marketing) -> None:
    first = await marketing.journey(walk(wait=WAIT))
    second = await marketing.journey(walk(wait={**WAIT, "for": "P2D"}))
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        assert (journey.status, journey.active_version_id) == ("active", second.id)
        numbers = [(await journeys.version(session, journey, v.id)).number for v in (first, second)]
        kept = (await journeys.version(session, journey, first.id)).definition
    assert numbers == [1, 2]
    assert kept["nodes"]["wait"]["for"] == "P1D"


async def test_a_version_belongs_to_its_journey(marketing: Marketing, other_tenant: Marketing) -> None:
    mine = await marketing.journey(walk(wait=WAIT))
    await marketing.journey(walk(wait=WAIT), key="another")
    async with marketing.session() as session:
        another = await journeys.find(session, "another")
        for version_id in (mine.id, new_id()):
            with pytest.raises(NotFoundError):
                await journeys.version(session, another, version_id)
    async with other_tenant.session() as session:
        with pytest.raises(NotFoundError):
            await versions.load(session, mine.id)


async def test_publishing_writes_down_which_events_concern_the_version(marketing: Marketing) -> None:
    for key in ("cart_vip", "cart_reminder"):
        await marketing.template(key)
    version = await marketing.journey(ABANDONED_CART)
    async with marketing.session() as session:
        rows = await session.scalars(
            select(JourneyListener).where(
                JourneyListener.tenant_id == marketing.tenant_id, JourneyListener.version_id == version.id
            )
        )
        found = {(row.event_type, row.kind, row.ordinal) for row in rows}
    assert found == {("cart.updated", "entry", 0), ("order.placed", "goal", 0), ("person.unsubscribed", "exit", 0)}


async def test_two_who_publish_at_once_make_two_versions(marketing: Marketing) -> None:
    await create(marketing)

    async def publish() -> JourneyVersion:
        async with marketing.session() as session:
            return await journeys.publish(session, await journeys.find(session, "journey"), by=CLI)

    async with marketing.session() as session:
        first = await journeys.publish(session, await journeys.find(session, "journey"), by=CLI)
        other = asyncio.create_task(publish())
        await marketing.until_blocked()
    assert [first.number, (await other).number] == [1, 2]


async def test_a_draft_whose_template_is_gone_cannot_be_published(marketing: Marketing) -> None:
    await marketing.template("hello")
    journey = await create(marketing, walk(send=SEND))
    async with marketing.superuser() as connection:
        await connection.execute("DELETE FROM template WHERE tenant_id = $1", marketing.tenant_id)
    async with marketing.session() as session:
        with pytest.raises(InvalidError) as refused:
            await journeys.publish(session, await journeys.find(session, str(journey.id)), by=CLI)
    assert [p.field for p in refused.value.errors] == ["definition.nodes.send.template"]


@pytest.mark.parametrize(
    ("before", "verb", "after"),
    [
        ("active", journeys.pause, "paused"),
        ("paused", journeys.resume, "active"),
        ("active", journeys.cancel, "cancelled"),
        ("paused", journeys.cancel, "cancelled"),
        ("draft", journeys.cancel, "cancelled"),
        ("draft", journeys.pause, None),
        ("draft", journeys.resume, None),
        ("active", journeys.resume, None),
        ("paused", journeys.pause, None),
        ("cancelled", journeys.pause, None),
        ("cancelled", journeys.resume, None),
        ("cancelled", journeys.cancel, None),
        ("cancelled", journeys.publish, None),
        ("paused", journeys.publish, "paused"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_the_switches(marketing: Marketing, before: str, verb: Any, after: str | None) -> None:  # noqa: ANN401
    journey = await create(marketing)
    ways: dict[str, list[Any]] = {
        "draft": [],
        "active": [journeys.publish],
        "paused": [journeys.publish, journeys.pause],
        "cancelled": [journeys.publish, journeys.cancel],
    }
    async with marketing.session() as session:
        journey = await journeys.find(session, str(journey.id))
        for way in ways[before]:
            await way(session, journey, by=CLI)
        if after is None:
            with pytest.raises(ConflictError):
                await verb(session, journey, by=CLI)
            assert journey.status == before
        else:
            await verb(session, journey, by=CLI)
            assert journey.status == after


async def test_every_change_is_logged_with_its_doer(marketing: Marketing) -> None:
    await create(marketing)
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        other = walk(wait={**WAIT, "for": "P2D"})
        await journeys.save_draft(session, journey, definition=other, name="Renamed", by=SOMEBODY)
        await journeys.save_draft(session, journey, definition=other, name="Renamed", by=SOMEBODY)
        await journeys.publish(session, journey, by=SOMEBODY)
        await journeys.pause(session, journey, by=SOMEBODY)
        await journeys.resume(session, journey, by=SOMEBODY)
        await journeys.cancel(session, journey, by=SOMEBODY)
    logged = await verbs(marketing)
    assert [(verb, actor) for verb, actor, _ in logged] == [
        ("journey.created", "cli"),
        *(
            (f"journey.{verb}", SOMEBODY.name)
            for verb in ("draft_saved", "published", "paused", "resumed", "cancelled")
        ),
    ]
    assert logged[1][2]["name"] == ["A journey", "Renamed"]
    assert logged[2][2] == {"version": [None, 1], "status": ["draft", "active"]}
    assert logged[-1][2] == {"status": ["active", "cancelled"]}


async def test_journeys_are_listed_newest_first_in_pages(marketing: Marketing, other_tenant: Marketing) -> None:
    made = [await create(marketing, key=f"j{number}") for number in range(3)]
    await create(other_tenant)
    async with marketing.session() as session:
        first = await journeys.page(session, after=None, limit=2)
        rest = await journeys.page(session, after=first[-1].id, limit=2)
    assert [journey.id for journey in (*first, *rest)] == [journey.id for journey in reversed(made)]
