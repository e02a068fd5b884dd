"""Freezing the audience: each page of people is queued in a transaction that moves the run's position too.

What zones, batches and a test say of each person is decided in the same statement, and is where its message stands:
nothing else remembers it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Float,
    Integer,
    Select,
    SmallInteger,
    Text,
    Uuid,
    and_,
    case,
    cast,
    func,
    literal,
    null,
    select,
)

from core.database import TenantSession
from models import CampaignRun, Person, TemplateVersion, Tenant
from services.marketing import queueing
from services.marketing.campaigns import audience, budget, definitions, planning, posts

PAGE: Final = 20_000
"""People of a page; about a second."""
FIRST: Final = UUID(int=0)
MAY_FREEZE: Final = ("scheduled", "running")
_GRAIN: Final = 2**24
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Sharing:
    """How a test and its variants share the audience out."""

    run_id: UUID
    variants: Sequence[Mapping[str, Any]]
    test: Mapping[str, Any] | None

    def columns(self, person_id: ColumnElement[UUID]) -> dict[str, ColumnElement[Any]]:
        """Return `tested`, `variant`, `template_version_id`, `held_for` and `reason` of a person: always the same."""
        number = case(*self._bounds(_fraction(person_id, f"variant:{self.run_id}")), else_=len(self.variants) - 1)
        version = case(
            *((number == index, UUID(each["template_version_id"])) for index, each in enumerate(self.variants)),
            else_=null(),
        )
        if self.test is None:
            several = len(self.variants) > 1
            return {
                "tested": cast(null(), Boolean),
                "variant": cast(number if several else null(), SmallInteger),
                "template_version_id": cast(version, Uuid),
                "held_for": cast(null(), Text),
                "reason": cast(null(), Text),
            }
        place = _fraction(person_id, f"sample:{self.run_id}")
        tested = place < self.test["share"]
        apart = place >= 1 - self.test["holdout"]
        if not self.test["holdout"]:
            apart = literal(value=False)
        return {
            "tested": and_(tested, ~apart),
            "variant": cast(case((tested, number), else_=null()), SmallInteger),
            "template_version_id": cast(case((tested, version), else_=null()), Uuid),
            "held_for": case((tested, null()), else_=cast(literal("winner"), Text)),
            "reason": cast(case((apart, "holdout"), else_=null()), Text),
        }

    def _bounds(self, place: ColumnElement[float]) -> list[tuple[ColumnElement[bool], int]]:
        total = sum(each["share"] for each in self.variants)
        reached, bounds = 0.0, list[tuple[ColumnElement[bool], int]]()
        for index, each in enumerate(self.variants):
            reached += each["share"] / total
            bounds.append((place < reached, index))
        return bounds


def _fraction(person_id: ColumnElement[UUID], salt: str) -> ColumnElement[float]:
    """Return a number of [0, 1) that is the person's for this purpose."""
    bits = func.hashtextextended(func.concat(cast(person_id, Text), salt), cast(0, BigInteger)).op("&")(_GRAIN - 1)
    return cast(bits, Float) / float(_GRAIN)


async def page(session: TenantSession, run_id: UUID) -> bool:
    """Queue the next people of a run's audience; whether that were all, or nothing is to be frozen now."""
    run = await session.get(CampaignRun, (session.tenant_id, run_id), populate_existing=True)
    if run is None:
        return True
    # whoever holds a run holds its campaign before
    campaign = await definitions.get(session, run.campaign_id, lock=True)
    await session.refresh(run, with_for_update=True)
    if run.frozen_at is not None or run.status not in MAY_FREEZE:
        return True
    if run.plan["channel"] == posts.CHANNEL:
        left = await budget.left(session, campaign, run)
        version = await _version(session, run)
        await posts.queue(session, run, version, paid=left is None or left > 0, expires_at=_expires_at(run))
        run.audience, run.frozen_at = 1, func.now()
        await session.flush()
        return True
    after = run.position or FIRST
    found = await audience.until(session, run.plan["audience"], after=after, size=PAGE)
    if found is not None:
        upto, people = found
        await _queue(session, run, after=after, upto=upto, limit=await budget.left(session, campaign, run))
        run.position = upto
        run.audience += people
    if found is None or found[1] < PAGE:
        run.frozen_at = func.now()
    await session.flush()
    return found is None or found[1] < PAGE


async def _queue(session: TenantSession, run: CampaignRun, *, after: UUID, upto: UUID, limit: int | None) -> None:
    first = await _version(session, run)
    zone = await session.scalar(select(Tenant.time_zone).where(Tenant.id == session.tenant_id)) or "UTC"
    await queueing.queue(
        session,
        source(session.tenant_id, run, after=after, upto=upto, zone=zone),
        channel=run.plan["channel"],
        template_version=first,
        priority=queueing.BULK,
        run_id=run.id,
        expires_at=_expires_at(run),
        limit=limit,
    )


async def _version(session: TenantSession, run: CampaignRun) -> TemplateVersion:
    """Return the version of the first variant."""
    return await session.get_one(
        TemplateVersion, (session.tenant_id, UUID(run.plan["variants"][0]["template_version_id"]))
    )


def _expires_at(run: CampaignRun) -> datetime | None:
    """Return when it is too late for what was frozen early, and neither zones, batches nor a rate spread."""
    plan = run.plan
    schedule = plan["schedule"]
    if schedule is None or schedule["freeze"] != "schedule" or plan["batches"] or run.rate_per_minute or plan["test"]:
        return None
    spread = planning.FIRST_ZONE + planning.LAST_ZONE if plan["local_at"] else timedelta()
    tomorrow = timedelta(days=1) if schedule["passed_zones"] == "tomorrow" else timedelta()
    return run.due_at + spread + tomorrow + planning.lateness(plan)


def source(tenant_id: UUID, run: CampaignRun, *, after: UUID, upto: UUID, zone: str) -> Select[*tuple[Any, ...]]:
    """Return the source for `queueing` of the people behind `after` up to `upto`, by the clocks of `zone` for many."""
    plan = run.plan
    people = audience.members(tenant_id, plan["audience"], after=after, upto=upto).subquery("people")
    person_id = people.c.person_id
    shared = Sharing(run.id, plan["variants"], plan["test"]).columns(person_id)
    anchor = cast(literal(max(run.due_at, run.started_at or run.due_at)), DateTime(timezone=True))
    if plan["local_at"] is None:
        rows = select(person_id)
        ready, local_at = anchor, cast(null(), DateTime(timezone=False))
    else:
        person = (
            select(Person.time_zone)
            .where(Person.tenant_id == tenant_id, Person.id == person_id)
            .limit(1)
            .lateral("person")
        )
        rows = select(person_id).select_from(people.join(person, literal(value=True)))
        ready, local_at, passed = _by_clock(plan, func.coalesce(person.c.time_zone, zone), anchor)
        if plan["schedule"]["passed_zones"] == "skip":
            shared["reason"] = func.coalesce(shared["reason"], case((passed, "zone_passed"), else_=null()))
    if plan["batches"] is not None:
        number = func.row_number().over(order_by=person_id) - 1 + run.audience
        batch = cast(func.div(number, plan["batches"]["size"]), Integer)
        if plan["test"] is not None:
            # the sample goes at once, for its answers are waited for
            batch = case((shared["tested"], 0), else_=batch)
        ready = func.greatest(ready, anchor) + func.make_interval(
            0, 0, 0, 0, 0, batch * plan["batches"]["every_minutes"]
        )
    return rows.with_only_columns(
        person_id.label("person_id"),
        func.concat(f"campaign:{run.campaign_id}:{run.occurrence}:", cast(person_id, Text)).label("dedupe_key"),
        cast(null(), Uuid).label("enrollment_id"),
        literal(run.campaign_id, Uuid).label("campaign_id"),
        ready.label("ready_at"),
        local_at.label("local_at"),
        *(column.label(name) for name, column in shared.items()),
    )


def _by_clock(
    plan: Mapping[str, Any], zone: ColumnElement[str], anchor: ColumnElement[datetime]
) -> tuple[ColumnElement[datetime], ColumnElement[datetime], ColumnElement[bool]]:
    """Return the moment at which a zone's clocks show the time, what they show, and whether they showed it before."""
    wall = cast(literal(datetime.fromisoformat(plan["local_at"])), DateTime(timezone=False))
    moment = func.timezone(zone, wall)
    passed = moment + planning.PAST_GRACE < anchor
    if plan["schedule"]["passed_zones"] != "tomorrow":
        return moment, wall, passed
    days = case((passed, 1 + func.floor(func.extract("epoch", anchor - moment) / _DAY)), else_=0)
    later = wall + func.make_interval(0, 0, 0, cast(days, Integer))
    return func.timezone(zone, later), later, passed
