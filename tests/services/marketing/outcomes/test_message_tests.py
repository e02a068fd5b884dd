"""Messages tried against one another at a node: by chance, until one has won for all later people."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update

from journeys.arms import chosen, place_of
from journeys.members import everyone, slots
from journeys.sending import SendNode
from models import Activity, EnrollmentStep, JourneyTest, Message, TemplateVersion
from services.journeys import journeys
from services.journeys.versions import LoadedVersion
from services.marketing.outcomes import journey_results
from services.marketing.templates import usage
from tests.factories.marketing import Marketing, Walking, walk

WINNER = {"metric": "clicks", "window": "P1D", "minimum": 30}


def trying(winner: dict[str, Any] | None = None, *, a: str = "one") -> dict[str, Any]:
    variants = [{"key": "a", "template": a, "share": 50}, {"key": "b", "template": "two", "share": 50}]
    send: dict[str, Any] = {"type": "send", "channel": "email", "variants": variants, "next": "done"}
    return walk(send=send if winner is None else send | {"winner": winner})


async def templates(marketing: Marketing, *keys: str) -> None:
    for key in keys or ("one", "two"):
        await marketing.template(key)


async def sent(cohort: Walking) -> dict[str, list[UUID]]:
    """Have the cohort come by; return who got which variant."""
    answer = await cohort.run("act", "send")
    assert await cohort.run("act", "send", attempt=2) == answer
    by_slot = {row.slot: row.subject_id for row in await cohort.rows()}
    return {way: [by_slot[slot] for slot in slots(members)] for way, members in answer.outcomes.items()}


async def more(marketing: Marketing, version: LoadedVersion, count: int) -> dict[str, list[UUID]]:
    await marketing.enroll(version, await marketing.people(count))
    return await sent((await marketing.cohorts(version))[-1])


async def answered(marketing: Marketing, people: Sequence[UUID], clicks: int) -> None:
    """Deliver what people got, and have some of them click."""
    async with marketing.session() as session:
        mine = update(Message).where(Message.tenant_id == session.tenant_id)
        await session.execute(mine.where(Message.person_id.in_(people)).values(status="delivered"))
        await session.execute(mine.where(Message.person_id.in_(people[:clicks])).values(clicks=1, opens=1))


async def pass_time(marketing: Marketing, hours: int) -> None:
    async with marketing.session() as session:
        ago = func.make_interval(0, 0, 0, 0, hours)
        moved = {"started_at": JourneyTest.started_at - ago, "look_at": JourneyTest.look_at - ago}
        await session.execute(update(JourneyTest).where(JourneyTest.tenant_id == session.tenant_id).values(moved))


async def the_test(marketing: Marketing) -> JourneyTest:
    async with marketing.session() as session:
        rows = select(JourneyTest).where(JourneyTest.tenant_id == session.tenant_id)
        return (await session.scalars(rows)).one()


async def test_chance_gives_each_a_variant_and_message_and_step_keep_it(marketing: Marketing) -> None:
    await templates(marketing)
    people = await marketing.people(40)
    cohort = await marketing.walking(trying(), people)
    node = cohort.version.definition.nodes["send"]
    assert isinstance(node, SendNode)
    got = await sent(cohort)
    drawn = {
        person: chosen(node.variants or (), place_of(cohort.version.journey_id, person, "send")) for person in people
    }
    assert {person: way for way, those in got.items() for person in those} == {
        person: f"variant_{key}" for person, key in drawn.items()
    }
    async with marketing.session() as session:
        ids = {
            row.template_id: row.id
            for row in await session.scalars(
                select(TemplateVersion).where(TemplateVersion.tenant_id == session.tenant_id)
            )
        }
        steps = list(await session.scalars(select(EnrollmentStep).where(EnrollmentStep.tenant_id == session.tenant_id)))
    of_variant: dict[str, set[UUID]] = {"a": set(), "b": set()}
    for message in await marketing.messages():
        assert message.person_id is not None
        key = drawn[message.person_id]
        assert (message.variant, message.tested) == ("ab".index(key), None)
        of_variant[key].add(message.template_version_id)
    assert sorted(map(len, of_variant.values())) == [1, 1]
    assert of_variant["a"] | of_variant["b"] == set(ids.values())
    for step in steps:
        key = (step.detail or {})["variant"]
        assert step.outcome == f"variant_{key}"
        assert step.detail == {"variant": key, "template_version": str(*of_variant[key])}


async def test_what_is_clearly_better_is_what_all_later_people_get(marketing: Marketing) -> None:
    await templates(marketing)
    version = await marketing.journey(trying(WINNER))
    got = await more(marketing, version, 120)
    await answered(marketing, got["variant_a"], 4)
    await answered(marketing, got["variant_b"], 30)
    assert set(await more(marketing, version, 20)) == {"variant_a", "variant_b"}  # not yet
    await pass_time(marketing, 25)
    assert set(await more(marketing, version, 20)) == {"variant_b"}
    row = await the_test(marketing)
    assert (row.outcome, row.winner, row.decided_at is None) == ("winner", "b", False)
    assert row.result is not None
    assert [(each["variant"], each["sent"], each["successes"]) for each in row.result["variants"]] == [
        ("a", len(got["variant_a"]), 4),
        ("b", len(got["variant_b"]), 30),
    ]
    async with marketing.session() as session:
        logged = select(func.count()).where(Activity.tenant_id == session.tenant_id)
        assert await session.scalar(logged.where(Activity.type == "journey.test_decided")) == 1
        found = await journey_results.of(session, version.journey_id)
    send = next(node for node in found.total.nodes if node.node == "send")
    assert {variant.key: variant.figures.clicked for variant in send.variants} == {"a": 4, "b": 30}
    assert [each.winner for each in found.tests] == ["b"]
    # once for all: whatever they answer afterwards, and in another version that tries the same
    await answered(marketing, got["variant_a"], len(got["variant_a"]))
    later = await marketing.journey(trying(WINNER | {"metric": "opens"}))
    assert set(await more(marketing, later, 20)) == {"variant_b"}
    assert [message.tested for message in await marketing.messages()].count(True) == 140


async def test_no_difference_is_decided_once_and_chance_goes_on(marketing: Marketing) -> None:
    await templates(marketing)
    version = await marketing.journey(trying(WINNER))
    got = await more(marketing, version, 100)
    for people in got.values():
        await answered(marketing, people, 12)
    await pass_time(marketing, 25)
    assert set(await more(marketing, version, 20)) == {"variant_a", "variant_b"}
    row = await the_test(marketing)
    assert (row.outcome, row.winner) == ("no_difference", None)
    # a test over and over would find a winner by chance some day
    await answered(marketing, got["variant_a"], len(got["variant_a"]))
    assert set(await more(marketing, version, 20)) == {"variant_a", "variant_b"}
    assert (await the_test(marketing)).decided_at == row.decided_at


async def test_too_few_decide_nothing_and_are_not_counted_at_each_step(marketing: Marketing) -> None:
    await templates(marketing)
    version = await marketing.journey(trying(WINNER | {"minimum": 50}))
    got = await more(marketing, version, 70)
    for people in got.values():
        await answered(marketing, people, len(people) // 2)
    await pass_time(marketing, 25)
    await more(marketing, version, 2)
    first = await the_test(marketing)
    assert (first.decided_at, first.look_at is None) == (None, False)
    await more(marketing, version, 2)
    assert (await the_test(marketing)).look_at == first.look_at
    got = await more(marketing, version, 70)
    await answered(marketing, [person for people in got.values() for person in people], 10)
    await pass_time(marketing, 3)  # a tenth of the window
    await more(marketing, version, 2)
    assert (await the_test(marketing)).decided_at is not None


async def test_other_templates_begin_another_test(marketing: Marketing) -> None:
    await templates(marketing, "one", "two", "three")
    version = await marketing.journey(trying(WINNER))
    await more(marketing, version, 2)
    await more(marketing, await marketing.journey(trying(WINNER, a="three")), 2)
    async with marketing.session() as session:
        tried = await session.scalars(select(JourneyTest.tried).where(JourneyTest.tenant_id == session.tenant_id))
        assert set(tried) == {"a=one,b=two", "a=three,b=two"}


async def test_two_who_come_by_at_once_decide_the_same(marketing: Marketing) -> None:
    await templates(marketing)
    version = await marketing.journey(trying(WINNER))
    got = await more(marketing, version, 120)
    await answered(marketing, got["variant_a"], 2)
    await answered(marketing, got["variant_b"], 30)
    await pass_time(marketing, 25)
    for _ in range(4):
        await marketing.enroll(version, await marketing.people(5))
    cohorts = (await marketing.cohorts(version))[1:]
    answers = await asyncio.gather(*(cohort.run("act", "send") for cohort in cohorts))
    assert [answer.outcomes for answer in answers] == [{"variant_b": everyone(5)}] * 4
    async with marketing.session() as session:
        logged = select(func.count()).where(Activity.tenant_id == session.tenant_id)
        assert await session.scalar(logged.where(Activity.type == "journey.test_decided")) == 1


async def test_a_template_of_a_variant_is_in_use(marketing: Marketing) -> None:
    await templates(marketing)
    await marketing.journey(trying())
    async with marketing.session() as session:
        journey = await journeys.find(session, "journey")
        assert journey.status == "active"
        query = text("SELECT id FROM template WHERE tenant_id = :tenant AND key = 'two'")
        template_id = await session.scalar(query, {"tenant": session.tenant_id})
        template = await session.get_one(usage.Template, (session.tenant_id, template_id))
        assert await usage.of(session, template) == [("journey", "journey")]
