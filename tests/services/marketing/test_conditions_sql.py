"""Conditions in SQL decide as those in memory do, whatever is stored, and only for the tenant's own rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy import DateTime, Table, Text, column, insert, literal, select, text, update, values
from sqlalchemy.dialects.postgresql import JSONB

from core.database import Database, TenantSession
from core.ids import new_id
from journeys.conditions import Condition, RootCondition
from journeys.durations import zone_named
from journeys.evaluate import Facts, evaluate
from journeys.literals import DATE_PATTERN, NUMBER_PATTERN
from models import Event, Person, Tenant
from services.marketing.conditions_sql import Scope, UnsupportedCondition, compile_condition
from tests.journeys import strategies
from tests.journeys.condition_cases import FIELD_CASES, NOW, TREE_CASES, FieldCase, TreeCase

CONDITIONS: TypeAdapter[Condition] = TypeAdapter(RootCondition)
PERSON: Table = Person.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
P = PERSON.alias("p")
ZONES = ["UTC", "Europe/Berlin", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kathmandu"]


def condition_of(raw: Mapping[str, Any]) -> Condition:
    return CONDITIONS.validate_python(raw)


@dataclass
class Store:
    """One tenant's rows, and what SQL decides about them."""

    session: TenantSession
    people: list[UUID] = field(default_factory=list[UUID])

    async def add_person(self, **columns: Any) -> UUID:
        person = Person(tenant_id=self.session.tenant_id, id=new_id(), **columns)
        self.session.add(person)
        await self.session.flush()
        return person.id

    async def add_event(self, person_id: UUID, kind: str, *, ago: timedelta = timedelta(), **properties: Any) -> None:
        await self.session.execute(
            insert(Event).values(
                tenant_id=self.session.tenant_id,
                id=new_id(),
                type=kind,
                subject_id=person_id,
                person_id=person_id,
                properties=properties,
                occurred_at=NOW - ago,
            )
        )

    async def decide(
        self,
        raw: Mapping[str, Any],
        person_id: UUID,
        *,
        entry: Mapping[str, Any] | None = None,
        event: Mapping[str, Any] | None = None,
        now: datetime = NOW,
    ) -> bool:
        trigger = values(
            column("type", Text), column("occurred_at", DateTime(timezone=True)), column("properties", JSONB), name="e"
        ).data([((event or {}).get("type", "test"), NOW, (event or {}).get("properties", {}))])
        scope = Scope(
            tenant_id=self.session.tenant_id,
            person=P,
            subject_id=P.c.id,
            entry=None if entry is None else literal(entry, JSONB),
            event=None if event is None else trigger,
            now=literal(now, DateTime(timezone=True)),
        )
        decided = compile_condition(condition_of(raw), scope)
        found = select(decided).where(P.c.tenant_id == self.session.tenant_id, P.c.id == person_id)
        return (await self.session.execute(found if event is None else found.add_columns(trigger.c.type))).one()[0]


@pytest.fixture
async def store(database: Database, tenant_id: UUID) -> Any:
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(text("SELECT current_user")) == "tl_app"
        # An odd zone and style of the session must not count.
        await session.execute(text("SET LOCAL timezone = 'Asia/Tokyo'"))
        await session.execute(text("SET LOCAL datestyle = 'SQL, DMY'"))
        yield Store(session)


@pytest.mark.parametrize("case", FIELD_CASES, ids=str)
async def test_a_field_compares_as_the_table_says(store: Store, case: FieldCase) -> None:
    person_id = await store.add_person(attributes=case.attributes)
    assert await store.decide(case.condition, person_id) is case.expected
    assert await store.decide({"not": case.condition}, person_id) is not case.expected


@pytest.mark.parametrize("case", TREE_CASES, ids=lambda case: case.name)
async def test_a_tree_decides_as_the_table_says(store: Store, case: TreeCase) -> None:
    person_id = await store.add_person(attributes=case.attributes)
    assert await store.decide(case.condition, person_id) is case.expected
