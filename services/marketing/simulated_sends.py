"""The node that sends, in a simulation: who would get a message, who not and why, with nothing queued.

Addresses, consent and suppression are as they stand now. Quiet hours and caps go by the virtual clock, and count what
the journey itself has sent in the simulation as well as what was really sent before.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Date, DateTime, Integer, Select, String, Text, Uuid, cast, func, literal, null, select

from journeys import members as member_sets
from journeys.sending import VARIANT, SendNode
from journeys.state import ActivityResult, Run
from models import Message, Tenant
from services.journeys.simulation import drawing
from services.journeys.simulation.passages import PASSAGE, PERSON, TENANT, zone_of
from services.journeys.simulation.world import Answers, World
from services.marketing import eligibility, templates
from services.marketing.sending_rules import SendingRules

_KEY: Final = "simulated:"


@dataclass(slots=True)
class Sends:
    """What is known of who may be sent to, in one simulation."""

    begin: datetime
    _barred: dict[tuple[str, str, str], dict[str, int]] = field(
        default_factory=dict[tuple[str, str, str], dict[str, int]]
    )
    """By channel, purpose and topic: who gets nothing, by the reason."""
    _rules: dict[str, SendingRules] = field(default_factory=dict[str, SendingRules])
    _days: dict[str, "_Days"] = field(default_factory=dict[str, "_Days"])

    @property
    def answers(self) -> Answers:
        """What nodes of marketing answer in this simulation."""
        return MappingProxyType({SendNode: self._send})

    async def _send(self, world: World, run: Run, node: SendNode, now: datetime) -> ActivityResult:
        if node.variants is None:
            await self._queue(world, run, node.template or "", node.channel, now)
            return ActivityResult(run.id, outcomes={"done": run.members})
        if run.node not in world.arms:
            world.arms[run.node] = await drawing.variants(world.session, world.journey_id, run.node, node)
        drawn = {way: those & run.members for way, those in world.arms[run.node].items() if those & run.members}
        for variant in node.variants:
            members = drawn.get(VARIANT + variant.key, 0)
            if members:
                await self._queue(world, replace(run, members=members), variant.template, node.channel, now)
        return ActivityResult(run.id, outcomes=drawn)

    async def _queue(self, world: World, run: Run, template_key: str, channel: str, now: datetime) -> None:
        if not world.tally.open:
            return
        template = await templates.current(world.session, channel=channel, key=template_key)
        key = channel, template.purpose, template.topic or ""
        if key not in self._barred:
            self._barred[key] = await _barred(world, channel, template)
        rest = run.members & ~world.passages.alone
        world.tally.excluded(run.node, run.members & ~rest, "no_person")
        for reason, those in self._barred[key].items():
            world.tally.excluded(run.node, rest & those, reason)
            rest &= ~those
        if template.purpose != "marketing":
            world.tally.queued(run.node, rest, delayed=False)
            return
        rules = await self._rules_of(world, channel)
        if not rules.concern_people:
            world.tally.queued(run.node, rest, delayed=False)
            return
        days = await self._days_of(world, channel, rules)
        for zone, those in world.by_zone(rest):
            go_at = now if rules.quiet is None else rules.quiet.until(now, zone)
            day = go_at.astimezone(zone).date()
            capped = days.over(rules, day) & those
            world.tally.excluded(run.node, capped, "capped")
            world.tally.queued(run.node, those & ~capped, delayed=go_at > now)
            days.add(day, world.passages.with_siblings(those & ~capped))

    async def _rules_of(self, world: World, channel: str) -> SendingRules:
        """Return the rules as they stand; nobody is kept from sending meanwhile."""
        if channel not in self._rules:
            tenant = (await world.session.scalars(select(Tenant).where(Tenant.id == world.session.tenant_id))).one()
            self._rules[channel] = SendingRules.read(
                channel,
                time_zone=tenant.time_zone,
                quiet_hours=tenant.quiet_hours,
                frequency_caps=tenant.frequency_caps,
            )
        return self._rules[channel]

    async def _days_of(self, world: World, channel: str, rules: SendingRules) -> "_Days":
        if channel not in self._days:
            days = self._days[channel] = _Days(max((cap.messages for cap in rules.caps), default=0))
            if rules.caps:
                longest = max(cap.days for cap in rules.caps)
                for day, number, slots in await _sent(world, channel, self.begin - timedelta(days=longest + 1)):
                    for _ in range(min(number, days.most)):
                        days.add(day, member_sets.from_slots(slots))
        return self._days[channel]


@dataclass(slots=True)
class _Days:
    """How many messages passages got on each day of their own clock, as far as caps ask."""

    most: int
    """Further is not counted."""
    _at_least: dict[date, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By day: who got at least one, at least two, ..."""

    def add(self, day: date, members: int) -> None:
        counts = self._at_least[day]
        for place in range(self.most):
            if not members:
                return
            if place == len(counts):
                counts.append(0)
            counts[place], members = counts[place] | members, counts[place] & members

    def over(self, rules: SendingRules, day: date) -> int:
        """Return who may not get another on that day."""
        barred = 0
        for cap in rules.caps:
            reached: Sequence[int] = ()
            for back in range(cap.days):
                reached = _sum(reached, self._at_least.get(day - timedelta(days=back), ()), cap.messages)
            if len(reached) >= cap.messages:
                barred |= reached[cap.messages - 1]
        return barred


def _sum(one: Sequence[int], other: Sequence[int], most: int) -> list[int]:
    """Add counts that are given as who has at least one, at least two, ...; count no further than `most`."""
    total = [0] * min(len(one) + len(other), most)
    for number in range(1, len(total) + 1):
        for part in range(number + 1):
            mine = -1 if part == 0 else one[part - 1] if part <= len(one) else 0
            theirs = -1 if part == number else other[number - part - 1] if number - part <= len(other) else 0
            total[number - 1] |= mine & theirs
    return total


def _recipients(world: World) -> Select[Any, Any, Any, Any]:
    person = PERSON.alias("p")
    return (
        select(
            person.c.id.label("person_id"),
            func.concat(_KEY, cast(PASSAGE.c.slot, String)).label("dedupe_key"),
            null().cast(Uuid).label("enrollment_id"),
            null().cast(Uuid).label("campaign_id"),
        )
        .select_from(PASSAGE.join(person, person.c.id == PASSAGE.c.person_id))
        .where(person.c.tenant_id == world.session.tenant_id)
    )


async def _barred(world: World, channel: str, template: Any) -> dict[str, int]:  # noqa: ANN401 - a template's version
    """Return who gets nothing from a template like this, by the reason, as the queue would judge them."""
    source = _recipients(world).cte("source")
    people = eligibility.people_of(world.session.tenant_id, source, channel, template, SendingRules())
    slot = cast(func.substr(people.c.dedupe_key, len(_KEY) + 1), Integer)
    rows = await world.session.execute(
        select(people.c.barred, func.array_agg(slot).label("slots"))
        .where(people.c.barred.is_not(None))
        .group_by(people.c.barred)
    )
    return {row.barred: member_sets.from_slots(row.slots) for row in rows}


async def _sent(world: World, channel: str, since: datetime) -> Sequence[Any]:
    """Return what marketing was sent to the passages' people since then: day on their clock, number, slots."""
    person = PERSON.alias("p")
    tenant_id = world.session.tenant_id
    at = func.coalesce(Message.sent_at, Message.created_at)
    zone = func.tl_known_zone(zone_of(person), literal("UTC", Text), type_=Text)
    day = cast(func.timezone(zone, at, type_=DateTime(timezone=False)), Date)
    by_slot = (
        select(PASSAGE.c.slot, day.label("day"), func.count().label("number"))
        .select_from(
            PASSAGE.join(person, person.c.id == PASSAGE.c.person_id)
            .join(TENANT, TENANT.c.id == tenant_id)
            .join(Message, Message.person_id == person.c.id)
        )
        .where(
            person.c.tenant_id == tenant_id,
            Message.tenant_id == tenant_id,
            Message.channel == channel,
            Message.priority > 0,
            Message.status.not_in(("excluded", "failed")),
            Message.created_at >= since,
        )
        .group_by(PASSAGE.c.slot, day)
        .subquery()
    )
    same = by_slot.c.day, by_slot.c.number
    rows = await world.session.execute(select(*same, func.array_agg(by_slot.c.slot)).group_by(*same))
    return rows.all()
