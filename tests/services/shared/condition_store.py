"""One tenant's people and events in PostgreSQL, and what conditions in SQL decide about them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import DateTime, FromClause, Table, Text, column, insert, literal, select, text, true, values
from sqlalchemy.dialects.postgresql import JSONB

from core.database import Database, TenantSession
from core.ids import new_id
from journeys.conditions import Condition, RootCondition
from models import Event, Person
from services.shared.conditions_counts import Counts
from services.shared.conditions_sql import Scope, compile_condition
from tests.journeys.condition_cases import NOW

CONDITIONS: TypeAdapter[Condition] = TypeAdapter(RootCondition)
EVENT: Table = Event.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
PERSON: Table = Person.__table__  # pyright: ignore[reportAssignmentType]
P = PERSON.alias("p")


def condition_of(raw: Mapping[str, Any]) -> Condition:
    return CONDITIONS.validate_python(raw)


@dataclass
class Store:
    """One tenant's rows, and what SQL decides about them."""

    session: TenantSession

    async def add_people(self, *people: Mapping[str, Any]) -> list[UUID]:
        rows = [{"tenant_id": self.session.tenant_id, "id": new_id(), **person} for person in people]
        for row in rows:
            await self.session.execute(insert(PERSON).values(row))
        return [row["id"] for row in rows]

    async def add_events(self, person_id: UUID, *events: Mapping[str, Any]) -> None:
        own = {"tenant_id": self.session.tenant_id, "subject_id": person_id, "person_id": person_id}
        if events:
            await self.session.execute(insert(EVENT), [{"id": new_id(), **own, **event} for event in events])

    async def decide(self, raw: Mapping[str, Any], person_id: UUID) -> bool:
        return (await self.decide_all([condition_of(raw)]))[person_id][0]

    async def decide_all(
        self,
        conditions: Sequence[Condition],
        *,
        entry: Mapping[str, Any] | None = None,
        event: Mapping[str, Any] | None = None,
        now: datetime = NOW,
    ) -> dict[UUID, list[bool]]:
        """Decide conditions for everybody, by one statement."""
        trigger = values(
            column("type", Text), column("occurred_at", DateTime(timezone=True)), column("properties", JSONB), name="e"
        ).data([(event["type"], event["occurred_at"], event["properties"])] if event else [("", NOW, {})])
        scope = Scope(
            tenant_id=self.session.tenant_id,
            person=P,
            subject_id=P.c.id,
            entry=None if entry is None else literal(entry, JSONB),
            event=None if event is None else trigger,
            now=literal(now, DateTime(timezone=True)),
        )
        # Counting person by person, and for everybody at once, must come to the same.
        counts = Counts(within=lambda person_id: person_id.is_not(None))
        one_by_one = await self._decided(conditions, scope, trigger)
        assert await self._decided(conditions, replace(scope, counts=counts), trigger) == one_by_one
        return one_by_one

    async def _decided(
        self, conditions: Sequence[Condition], scope: Scope, trigger: FromClause
    ) -> dict[UUID, list[bool]]:
        statement = select(P.c.id, *[compile_condition(condition, scope) for condition in conditions])
        people = P if scope.counts is None else scope.counts.join(P)
        rows = await self.session.execute(
            statement.select_from(people.join(trigger, true())).where(P.c.tenant_id == self.session.tenant_id)
        )
        return {row[0]: list(row[1:]) for row in rows}


@asynccontextmanager
async def open_store(database: Database, tenant_id: UUID) -> AsyncGenerator[Store]:
    """Open one transaction as the application, in a session whose zone and style of dates must not count."""
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(text("SELECT current_user")) == "tl_app"
        await session.execute(text("SET LOCAL timezone = 'Asia/Tokyo'"))
        await session.execute(text("SET LOCAL datestyle = 'SQL, DMY'"))
        yield Store(session)
