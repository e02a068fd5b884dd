"""What made users leave other systems over entering journeys must not happen here: the complaints by their number.

As in `test_peers`, which has more of them.
"""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import pytest
from httpx import AsyncClient
from sqlalchemy import update

from journeys.entries import Again
from models import Enrollment
from services.events.publish import NewEvent, publish
from services.journeys import eligibility, passages
from services.journeys.versions import LoadedVersion
from tests.eventually import eventually
from tests.factories.marketing import Marketing, event, walk
from tests.factories.running import Platform

WAIT: Final = {"type": "wait", "for": "P1D", "next": "done"}
ALWAYS: Final = {"mode": "always"}


async def refused(marketing: Marketing, version: LoadedVersion) -> dict[str, int]:
    async with marketing.session() as session:
        return dict((await passages.stats(session, version.journey_id)).refused)


async def test_11_who_is_not_let_in_is_counted_and_the_key_is_the_business_s(
    running: Platform, client: AsyncClient
) -> None:
    """PostHog: ids made anew for each attempt had 11,920 runs taken for repeats, and nobody saw it."""
    marketing = running.marketing
    entry = {"event": "order.placed", "key": "event.properties.order_id"}
    version = await marketing.journey(walk(entry=entry, wait=WAIT))
    person = await marketing.person()
    # the same order told under other ids; an order of its own; one without a number
    orders: list[dict[str, Any]] = [{"order_id": "o1"}, {"order_id": "o1"}, {"order_id": "o2"}, {}]
    for order in orders:
        await marketing.hear(event("order.placed", person, **order))
    assert [row.entry_key for row in await marketing.enrollments(version)] == ["o1", "o2"]
    stats = (await client.get("/v1/journeys/journey/stats")).json()
    assert stats["refused"] == {"already_active": 1, "no_key": 1}


@dataclass
class Model:
    """What entering is to come to, for one person and key."""

    again: Again
    entered: list[timedelta] = field(default_factory=list[timedelta])
    """How long ago, newest last."""
    open: int = 0

    def enter(self) -> str | None:
        """Enter, or say why not."""
        single = not self.again.overlapping and not self.again.restarting
        if single and self.open:
            return "already_active"
        if self.again.mode == "never" and self.entered:
            return "already_entered"
        if self.again.min_gap is not None and self.entered and self.entered[-1] < self.again.min_gap.elapsed:
            return "too_soon"
        self.open = 1 if self.again.restarting else self.open + 1
        self.entered.append(timedelta(0))
        return None


RULES: Final[tuple[dict[str, Any], ...]] = (
    {"mode": "never"},
    {"mode": "when_not_active"},
    {"mode": "when_not_active", "min_gap": "PT2H"},
    ALWAYS,
    {"mode": "always", "min_gap": "PT2H"},
    {"mode": "always", "overlap": "ignore"},
    {"mode": "always", "overlap": "restart"},
    {"mode": "always", "overlap": "restart", "min_gap": "PT2H"},
)


async def test_14_15_and_16_any_course_of_entries_ends_and_hours_is_as_the_rule_has_it(marketing: Marketing) -> None:
    """Dittofeed, Mautic: "run multiple" did not; re-entry broke, was always on, or left both runs scheduled."""
    for number, rule in enumerate(RULES):
        version = await marketing.journey(walk(wait=WAIT), f"journey-{number}")
        await _follow(marketing, version, Again.model_validate(rule), random.Random(number))


async def _follow(marketing: Marketing, version: LoadedVersion, again: Again, chance: random.Random) -> None:
    person = await marketing.person()
    models = {key: Model(again) for key in ("a", "b")}
    for _ in range(14):
        key = chance.choice(sorted(models))
        match chance.choice(("enter", "enter", "end", "hour")):
            case "enter":
                reason = models[key].enter()
                done = await marketing.enroll(version, [person], again=again, key=key)
                assert (len(done.enrollment_ids), dict(done.skipped)) == (
                    (1, {}) if reason is None else (0, {reason: 1})
                )
            case "end":
                models[key].open = 0
                await change(marketing, {"status": "completed", "ended_at": Enrollment.entered_at}, version, key=key)
            case _:
                for model in models.values():
                    model.entered = [ago + timedelta(hours=1) for ago in model.entered]
                await change(marketing, {"entered_at": Enrollment.entered_at - timedelta(hours=1)}, version)
        rows = await marketing.enrollments(version)
        assert {name: (model.open, len(model.entered)) for name, model in models.items()} == {
            name: (
                sum(row.ended_at is None for row in rows if row.entry_key == name),
                sum(row.entry_key == name for row in rows),
            )
            for name in models
        }


async def change(
    marketing: Marketing, values: dict[str, Any], version: LoadedVersion, *, key: str | None = None
) -> None:
    async with marketing.session() as session:
        which = update(Enrollment).where(Enrollment.tenant_id == session.tenant_id, Enrollment.version_id == version.id)
        if key is not None:
            which = which.where(Enrollment.entry_key == key, Enrollment.ended_at.is_(None))
        await session.execute(which.values(**values))


async def test_16_and_23_of_many_saved_fields_the_last_one_is_acted_on_once(running: Platform) -> None:
    """Mautic: entering again left both runs scheduled. Twenty: every autosaved field started a run."""
    marketing = running.marketing
    await marketing.template("hello")
    entry = {"event": "page.viewed", "again": {"mode": "always", "overlap": "restart"}}
    version = await marketing.journey(
        walk(
            entry=entry,
            quiet={"type": "wait", "for": "PT3S", "next": "send"},
            send={"type": "send", "channel": "email", "template": "hello", "next": "done"},
        )
    )
    person = await marketing.person()

    async def all_over() -> bool:
        rows = await marketing.enrollments(version)
        return len(rows) == 4 and all(row.ended_at is not None for row in rows)

    async with running.worker(), running.relaying():
        for number in range(4):
            async with marketing.session() as session:
                await publish(session, [NewEvent("page.viewed", person, properties={"n": number})])
        await eventually(all_over)
    rows = await marketing.enrollments(version)
    assert sorted((row.entry["n"], row.reason) for row in rows) == [
        *((number, "restarted") for number in range(3)),
        (3, "finished"),
    ]
    assert len(await marketing.messages()) == 1


async def test_23_a_journey_that_brings_itself_about_is_stopped_and_seen(
    running: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty: what a workflow writes starts it again, for ever."""
    monkeypatch.setattr(eligibility, "LOOP_DEPTH", 4)
    marketing = running.marketing
    version = await marketing.journey(
        walk(
            entry={"event": "person.updated", "again": ALWAYS},
            mark={"type": "update_person", "set": {"attributes.seen": True}, "next": "clear"},
            clear={"type": "update_person", "set": {"attributes.seen": None}, "next": "done"},
        )
    )
    person = await marketing.person()

    async def stopped() -> bool:
        # each passage is the cause of two events: the one that entered by neither is the first
        told = len(await marketing.enrollments(version)) + sum((await refused(marketing, version)).values())
        return told == 1 + 2 * 4

    async with running.worker(), running.relaying():
        async with marketing.session() as session:
            await publish(session, [NewEvent("person.updated", person, properties={"fields": ["first_name"]})])
        await eventually(stopped)
    assert len(await marketing.enrollments(version)) == 4
    assert await refused(marketing, version) == {"looping": 5}
