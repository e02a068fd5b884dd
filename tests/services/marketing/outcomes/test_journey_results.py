"""What came of a journey, counted by hand beside what the results say."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, update

from core.actor import CLI
from journeys.members import slots
from models import Message, OrderFact
from services.identity import merging
from services.journeys import journeys
from services.marketing.outcomes import attribution, journey_results
from services.marketing.outcomes.journey_results import Figures, NodeResult, Results
from services.marketing.outcomes.proportions import Count, compare
from tests.factories.marketing import Marketing, Walking, event, walk

SEND = {"type": "send", "channel": "email", "template": "hello", "next": "done"}


def with_holdout(*, held: int = 50) -> dict[str, Any]:
    arms = [
        {"key": "mail", "share": 100 - held, "next": "send"},
        {"key": "out", "share": held, "next": "done", "holdout": True},
    ]
    return {
        **walk(split={"type": "split", "arms": arms}, send=SEND),
        "goal": {"event": "order.placed", "within": "P7D"},
    }


async def results(marketing: Marketing, key: str = "journey") -> Results:
    async with marketing.session() as session:
        return await journey_results.of(session, (await journeys.find(session, key)).id)


def node(nodes: Any, name: str) -> NodeResult:  # noqa: ANN401 - of a version or of all
    return next(each for each in nodes if each.node == name)


def arms(found: NodeResult) -> dict[str, Figures]:
    return {arm.key: arm.figures for arm in found.arms}


async def walked(cohort: Walking) -> dict[str, list[UUID]]:
    """Take the cohort through; return who took which arm."""
    outcomes = (await cohort.run("act", "split")).outcomes
    by_slot = {row.slot: row.subject_id for row in await cohort.rows()}
    await cohort.run("act", "send", slots=slots(outcomes["arm_mail"]))
    return {outcome: [by_slot[slot] for slot in slots(members)] for outcome, members in outcomes.items()}


async def buy(marketing: Marketing, *people: UUID, minor: int = 1_000) -> None:
    """Have people place an order, told to the bus and credited to the mail they clicked."""
    now = datetime.now(UTC)
    async with marketing.session() as session:
        clicked = update(Message).where(Message.tenant_id == session.tenant_id, Message.person_id.in_(people))
        hour = timedelta(hours=1)
        await session.execute(clicked.values(status="delivered", opens=1, clicks=1, clicked_at=now - hour))
        facts = [
            {"tenant_id": session.tenant_id, "order_key": str(each), "person_id": each, "currency": "EUR"}
            | {"total_minor": minor, "refunded_minor": 0, "placed_at": now}
            for each in people
        ]
        await session.execute(insert(OrderFact), facts)
        await attribution.credit(session, people)
    await marketing.hear(*(event("order.placed", person) for person in people))


async def test_each_arm_says_who_came_and_converted_what_was_sent_and_brought(marketing: Marketing) -> None:
    await marketing.template("hello")
    took = await walked(await marketing.walking(with_holdout(), await marketing.people(40)))
    mailed, held = took["arm_mail"], took["arm_out"]
    await buy(marketing, *mailed[:6], held[0])
    found = await results(marketing)
    assert found.currency == "EUR"
    [of_version] = found.versions
    for result in (found.total, of_version):
        total = result.figures
        assert (total.entered, total.people, total.conversions, total.converted) == (40, 40, 7, 7)
        assert (total.messages, total.sent, total.clicked) == (len(mailed), 6, 6)
        assert (total.orders, total.minor) == (6, 6_000)
        split = node(result.nodes, "split")
        assert (split.figures.entered, split.figures.conversions, split.figures.messages) == (40, 7, 0)
        by_arm = arms(split)
        assert by_arm["mail"] == Figures(
            len(mailed), len(mailed), 6, 6, messages=len(mailed), sent=6, opened=6, clicked=6, orders=6, minor=6_000
        )
        assert by_arm["out"] == Figures(len(held), len(held), 1, 1)
        mail, out = split.arms
        assert (mail.holdout, out.holdout, out.lift) == (False, True, None)
        assert mail.lift == compare(Count(6, len(mailed)), Count(1, len(held)), 0.95)
        send = node(result.nodes, "send")
        assert (send.figures.people, send.figures.converted, send.figures.messages) == (len(mailed), 6, len(mailed))
        # the exit is where all of them came
        assert node(result.nodes, "done").figures.entered == 40


async def test_somebody_who_comes_twice_is_one_person(marketing: Marketing) -> None:
    await marketing.template("hello")
    people = await marketing.people(6)
    first = await walked(await marketing.walking(with_holdout(), people))
    version = (await results(marketing)).versions[0].version
    assert version is not None
    await marketing.enroll(version, people)
    for cohort in await marketing.cohorts(version):
        await walked(cohort)
    someone = first["arm_mail"][0]
    await buy(marketing, someone)
    figures = arms(node((await results(marketing)).total.nodes, "split"))["mail"]
    count = len(first["arm_mail"])
    assert (figures.entered, figures.people, figures.conversions, figures.converted) == (2 * count, count, 2, 1)
    assert figures.rate == pytest.approx(1 / count)


async def test_versions_are_told_apart_and_together(marketing: Marketing, other_tenant: Marketing) -> None:
    for tenant in (marketing, other_tenant):
        await tenant.template("hello")
    people = await marketing.people(20)
    took = await walked(await marketing.walking(with_holdout(), people))
    await walked(await other_tenant.walking(with_holdout(), await other_tenant.people(20)))
    version = await marketing.journey(with_holdout(held=10))
    newcomers = await marketing.people(20)
    await marketing.enroll(version, [*people, *newcomers])
    again = await walked((await marketing.cohorts(version))[0])
    await buy(marketing, took["arm_mail"][0])
    found = await results(marketing)
    assert [each.figures.entered for each in found.versions] == [40, 20]
    # one person, in two passages, one of each version
    assert [each.figures.converted for each in found.versions] == [1, 1]
    assert (found.total.figures.conversions, found.total.figures.converted) == (2, 1)
    assert (found.total.figures.entered, found.total.figures.people) == (60, 40)
    newest, oldest = (arms(node(each.nodes, "split")) for each in found.versions)
    assert oldest["out"].people == len(took["arm_out"])
    assert newest["out"].people == len(again.get("arm_out", []))
    assert [arm.share for arm in node(found.total.nodes, "split").arms] == [90, 10]
    other = await results(other_tenant)
    assert (other.total.figures.entered, other.total.figures.converted) == (20, 0)


async def test_nothing_comes_of_nobody_and_of_an_arm_that_is_gone_what_came(marketing: Marketing) -> None:
    await marketing.template("hello")
    version = await marketing.journey(with_holdout())
    split = node((await results(marketing)).total.nodes, "split")
    assert all(arm.figures == Figures() and arm.figures.rate is None for arm in split.arms)
    await marketing.enroll(version, await marketing.people(12))
    await walked((await marketing.cohorts(version))[0])
    gone = with_holdout()
    gone["nodes"]["split"]["arms"] = [{"key": key, "share": 50, "next": "send"} for key in ("mail", "text")]
    await marketing.journey(gone)
    found = node((await results(marketing)).total.nodes, "split")
    assert [(arm.key, arm.share, arm.lift) for arm in found.arms] == [
        ("mail", 50, None),
        ("text", 50, None),
        ("out", None, None),
    ]
    assert sum(arm.figures.people for arm in found.arms) == 12


async def test_a_passage_that_a_merge_ended_is_not_counted(marketing: Marketing) -> None:
    await marketing.template("hello")
    definition = with_holdout() | {"entry": {"api": True, "again": {"mode": "when_not_active"}}}
    definition["nodes"]["wait"] = {"type": "wait", "for": "P1D", "next": "split"}
    definition["start"] = "wait"
    version = await marketing.journey(definition)
    winner, loser = await marketing.people(2)
    await marketing.enroll(version, [winner, loser], again=version.definition.by_api.again)
    async with marketing.session() as session:
        await merging.merge(session, winner_id=winner, loser_id=loser, by=CLI)
    figures = (await results(marketing)).total.figures
    assert (figures.entered, figures.people) == (1, 1)
