"""Conditions of passages on the virtual clock: one statement for a whole audience, over what the journey changed.

What a condition says of somebody stays, unless it speaks of time or of events: those are asked anew at each moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    DateTime,
    FromClause,
    Integer,
    Table,
    Text,
    and_,
    bindparam,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys import members as member_sets
from journeys.conditions import Condition, FieldCondition, FieldPath, events_of
from journeys.evaluate import Facts, NeedsDatabase, evaluate
from models import Event
from services.journeys.simulation import deals
from services.journeys.simulation.changes import Changes, Overlay, decided, people_with
from services.journeys.simulation.passages import PASSAGE, Passages
from services.journeys.waiting import text_of
from services.shared.conditions_clock import speaks_of_time
from services.shared.conditions_counts import Counts
from services.shared.conditions_sql import Scope, compile_condition

EVENT: Table = Event.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
FEW: Final = 16
"""One in so many: fewer are asked about one by one."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event played to a passage."""

    slot: int
    type: str
    at: datetime
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """Which events are played: those of a stretch of the past, again and again behind one another."""

    since: datetime
    end: datetime
    begin: datetime
    """When the simulation begins, and the stretch is played for the first time."""
    played: bool = True

    @property
    def length(self) -> timedelta:
        """How long it is until it is played again."""
        return self.end - self.since

    def shifts(self, until: datetime) -> Sequence[timedelta]:
        """Return by how much events are moved on, once for each time that the stretch has begun by then."""
        if not self.played:
            return ()
        times = max(0, -(-(until - self.begin) // self.length))
        return [self.begin - self.since + self.length * number for number in range(times)]


@dataclass(slots=True)
class Asking:
    """What conditions say of the passages."""

    session: TenantSession
    passages: Passages
    window: Window
    changes: Changes = field(default_factory=Changes)
    _known: dict[tuple[str, Overlay], tuple[int, int]] = field(
        default_factory=dict[tuple[str, Overlay], tuple[int, int]]
    )
    """Of a condition, as JSON, and overlay: who was asked about, and for whom it holds."""

    async def holding(self, condition: Condition, members: int, now: datetime) -> int:
        """Return those of `members` for whom the condition holds at that moment."""
        held = 0
        passing = speaks_of_time(condition) or (self.window.played and bool(events_of(condition)))
        # By its value: some are made for one question, and others come to stand where they stood.
        text = "" if passing else condition.model_dump_json(by_alias=True)
        for overlay, those in self.changes.among(members, condition):
            if passing:
                held |= await self._asked(condition, overlay, those, now)
                continue
            key = text, overlay
            asked, holds = self._known.get(key, (0, 0))
            if missing := those & ~asked:
                if missing.bit_count() * FEW > self.passages.size:
                    missing = self.passages.everyone
                holds |= await self._asked(condition, overlay, missing, now)
                asked |= missing
                self._known[key] = asked, holds
            held |= holds & those
        return held

    async def values(self, path: FieldPath, members: int, now: datetime) -> dict[str | None, int]:
        """Return what a field holds at that moment, as text, and for which of `members`."""
        found: dict[str | None, int] = {}
        for overlay, those in self.changes.among(members, FieldCondition(field=path, op="exists")):
            source, scope = self._scope(overlay, now)
            slots = bindparam("slots", member_sets.slots(those), type_=ARRAY(Integer))
            held = (
                select(text_of(path, scope).label("value"), PASSAGE.c.slot)
                .select_from(source)
                .where(PASSAGE.c.slot == func.any(slots))
                .subquery()
            )
            rows = await self.session.execute(
                select(held.c.value, func.array_agg(held.c.slot).label("slots")).group_by(held.c.value)
            )
            for row in rows:
                found[row.value] = found.get(row.value, 0) | member_sets.from_slots(row.slots)
        return found

    async def holding_of(self, condition: Condition | None, happened: Sequence[Happened], now: datetime) -> set[int]:
        """Return the slots whose event a condition holds for: decided by the event where it says enough."""
        if condition is None:
            return {each.slot for each in happened}
        held: set[int] = set()
        undecided: list[Happened] = []
        for each in happened:
            event = {"type": each.type, "occurred_at": each.at, "properties": each.properties}
            try:
                if evaluate(condition, Facts(now=now, event=event)):
                    held.add(each.slot)
            except NeedsDatabase:
                undecided.append(each)
        if undecided:
            held |= await self._holding_of(condition, undecided, now)
        return held

    async def _holding_of(self, condition: Condition, happened: Sequence[Happened], now: datetime) -> set[int]:
        held: set[int] = set()
        events = {each.slot: each for each in happened}
        for overlay, those in self.changes.among(member_sets.from_slots(events), condition):
            told = [events[slot] for slot in member_sets.slots(those)]
            given = (
                func.unnest(
                    bindparam(None, [each.slot for each in told], type_=ARRAY(Integer)),
                    bindparam(None, [each.type for each in told], type_=ARRAY(Text)),
                    bindparam(None, [each.properties for each in told], type_=ARRAY(JSONB)),
                    bindparam(None, [each.at for each in told], type_=ARRAY(DateTime(timezone=True))),
                )
                .table_valued("slot", "type", "properties", "occurred_at")
                .render_derived(name="given")
            )
            source, scope = self._scope(overlay, now)
            source = source.join(given, given.c.slot == PASSAGE.c.slot)
            holds = compile_condition(decided(condition, overlay), replace(scope, event=given))
            held.update(await self.session.scalars(select(PASSAGE.c.slot).select_from(source).where(holds)))
        return held

    async def _asked(self, condition: Condition, overlay: Overlay, members: int, now: datetime) -> int:
        source, scope = self._scope(overlay, now)
        condition = decided(condition, overlay)
        where: list[ColumnElement[bool]] = []
        if members.bit_count() * FEW > self.passages.size:
            counts = Counts(lambda person_id: person_id.in_(select(PASSAGE.c.person_id)))
            where.append(compile_condition(condition, replace(scope, counts=counts)))
            source = counts.join(source)
        else:
            slots = bindparam("slots", member_sets.slots(members), type_=ARRAY(Integer))
            where += [PASSAGE.c.slot == func.any(slots), compile_condition(condition, scope)]
        found = await self.session.scalar(select(func.array_agg(PASSAGE.c.slot)).select_from(source).where(*where))
        return member_sets.from_slots(found or ()) & members

    def forget(self, members: int) -> None:
        """Have all be asked anew about members whose deals are others now."""
        for key, (asked, holds) in self._known.items():
            self._known[key] = asked & ~members, holds & ~members

    def _scope(self, overlay: Overlay, now: datetime) -> tuple[FromClause, Scope]:
        person = people_with(self.session, overlay)
        of_deals = self.passages.cast.subject == "deal"
        # In the join, as a condition may turn out to be one that never holds, which takes all others away.
        whose = and_(person.c.tenant_id == self.session.tenant_id, person.c.id == PASSAGE.c.person_id)
        source: FromClause = PASSAGE.join(person, whose, isouter=of_deals)
        scope = Scope(
            tenant_id=self.session.tenant_id,
            person=person,
            person_may_lack=of_deals,
            subject_id=PASSAGE.c.person_id,
            entry=PASSAGE.c.entry,
            now=literal(now, DateTime(timezone=True)),
            events=self._events(now),
        )
        if of_deals:
            deal = deals.at(now)
            source = source.join(deal, deal.c.number == PASSAGE.c.number)
            scope = replace(scope, rows={"deal": deal})
        return source, scope

    def _events(self, now: datetime) -> Callable[[], FromClause]:
        """Return what events are at a moment: those of before the simulation, and those played since."""
        shifts = self.window.shifts(now)
        if not shifts:
            return EVENT.alias
        of_tenant = EVENT.c.tenant_id == self.session.tenant_id
        columns = EVENT.c.tenant_id, EVENT.c.person_id, EVENT.c.type

        def made() -> FromClause:
            moment = literal(now, DateTime(timezone=True))
            before = select(*columns, EVENT.c.occurred_at, EVENT.c.properties).where(
                of_tenant, EVENT.c.occurred_at < self.window.begin
            )
            parts = [before]
            for shift in shifts:
                then = EVENT.c.occurred_at + literal(shift)
                within = EVENT.c.occurred_at >= self.window.since, EVENT.c.occurred_at < self.window.end
                parts.append(
                    select(*columns, then.label("occurred_at"), EVENT.c.properties).where(
                        of_tenant, *within, EVENT.c.live, then <= moment
                    )
                )
            return union_all(*parts).subquery()

        return made
