"""Lead scores: the sum of the points of the rules that hold, decided by one statement for a page of people.

Recomputed when something happens to a person that a rule may ask about (`CONSUMER`), with an order's facts, for
everybody when rules change, and daily where a rule speaks of time. A stored score is what recomputing would give.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import add
from typing import Any, Final
from uuid import UUID, uuid5

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Integer, Table, case, literal, select, update

from contracts.events import (
    PERSON_CREATED,
    PERSON_MERGED,
    PERSON_SCORE_CHANGED,
    PERSON_SUBSCRIBED,
    PERSON_UNMERGED,
    PERSON_UNSUBSCRIBED,
    PERSON_UPDATED,
)
from contracts.scores import WORKFLOW, ScoresInput
from core.database import Database, TenantSession
from core.ids import new_id
from journeys.conditions import Condition, EventCondition, FieldCondition, RootCondition, events_of, walk
from models import Person, ScoreRule, Tenant
from services.events.bus import Consumer, EventRow
from services.events.publish import NewEvent, publish
from services.identity import lifecycle
from services.shared import starts
from services.shared.conditions_sql import Scope, compile_condition

PAGE: Final = 1_000

_CHANGES: Final = frozenset(
    {PERSON_CREATED, PERSON_UPDATED, PERSON_SUBSCRIBED, PERSON_UNSUBSCRIBED, PERSON_MERGED, PERSON_UNMERGED}
)
_RELATIVE: Final = frozenset({"older_than", "newer_than", "anniversary_in"})
_CONDITION: Final[TypeAdapter[Condition]] = TypeAdapter(RootCondition)
_PERSON: Final[Table] = Person.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, read."""

    key: str
    name: str
    points: int
    condition: Condition

    @property
    def speaks_of_time(self) -> bool:
        """Whether it may begin or cease to hold though nothing happens."""
        return any(
            (isinstance(part, FieldCondition) and part.op in _RELATIVE)
            or (isinstance(part, EventCondition) and part.within is not None)
            for part in walk(self.condition)
        )


def parse(condition: object) -> Condition:
    """Return the condition in JSON; `pydantic.ValidationError` where its form is wrong."""
    return _CONDITION.validate_python(condition)


async def rules(session: TenantSession) -> list[Rule]:
    """Return the rules that count."""
    rows = await session.scalars(
        select(ScoreRule)
        .where(ScoreRule.tenant_id == session.tenant_id, ScoreRule.enabled.is_(True))
        .order_by(ScoreRule.id)
    )
    return [Rule(row.key, row.name, row.points, parse(row.condition)) for row in rows]


async def recompute(
    session: TenantSession,
    person_ids: Sequence[UUID],
    *,
    quiet: Collection[UUID] = (),
    even_without_rules: bool = False,
) -> None:
    """Bring the scores of these people in line with the rules, and their stages with the scores.

    Publishes `person.score_changed` `{from, to}`; not live for people in `quiet`. Where there are no rules nothing is
    done unless told so: dropping the last has everybody recomputed.
    """
    if not even_without_rules and not await rules(session):
        return
    people = await lifecycle.lock(session, person_ids)
    if not people:
        return
    # Read under the lock: whoever changed the rules meanwhile has the people recomputed after us.
    found = await rules(session)
    person = _PERSON.alias("p")
    scored = (
        select(person.c.id, person.c.score.label("old"), _points(found, _scope(session, person)).label("score"))
        .where(person.c.tenant_id == session.tenant_id, person.c.id.in_(sorted(people)))
        .cte("scored")
        .prefix_with("MATERIALIZED")
    )
    statement = (
        update(_PERSON)
        .values(score=scored.c.score)
        .where(
            _PERSON.c.tenant_id == session.tenant_id,
            _PERSON.c.id == scored.c.id,
            _PERSON.c.score != scored.c.score,
        )
        .returning(_PERSON.c.id, scored.c.old, scored.c.score)
    )
    changed = sorted((await session.execute(statement)).all(), key=lambda row: row.id)
    await publish(
        session,
        [
            NewEvent(
                PERSON_SCORE_CHANGED, row.id, properties={"from": row.old, "to": row.score}, live=row.id not in quiet
            )
            for row in changed
        ],
    )
    await lifecycle.recompute(session, [row.id for row in changed], quiet=quiet)


def _scope(session: TenantSession, person: Any) -> Scope:  # noqa: ANN401 - an alias of the table
    return Scope(tenant_id=session.tenant_id, person=person, subject_id=person.c.id)


def _points(found: Sequence[Rule], scope: Scope) -> ColumnElement[int]:
    each: list[ColumnElement[int]] = [
        case((compile_condition(rule.condition, scope), rule.points), else_=0) for rule in found
    ]
    return reduce(add, each, literal(0, Integer))


@dataclass(frozen=True, slots=True)
class Explained:
    """A person's score, and for each rule whether it holds."""

    score: int
    qualify_at: int | None
    rules: Sequence[tuple[Rule, bool]]


async def explain(session: TenantSession, person: Person) -> Explained:
    """Say which rules hold for the person now."""
    found = await rules(session)
    row = _PERSON.alias("p")
    scope = _scope(session, row)
    decided = (
        await session.execute(
            select(row.c.id, *(compile_condition(rule.condition, scope) for rule in found)).where(
                row.c.tenant_id == session.tenant_id, row.c.id == person.id
            )
        )
    ).one()
    qualify_at = await session.scalar(select(Tenant.qualify_at_score).where(Tenant.id == session.tenant_id))
    return Explained(person.score, qualify_at, list(zip(found, decided[1:], strict=True)))


async def concerning(session: TenantSession, types: frozenset[str]) -> frozenset[str]:
    """Return which of the types a rule may ask about."""
    found = await rules(session)
    return types.intersection(_heard(found)) if found else frozenset()


def _heard(found: Sequence[Rule]) -> frozenset[str]:
    return _CHANGES.union(*(events_of(rule.condition) for rule in found))


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Recompute the scores of people to whom something happened that a rule may ask about."""
    found = await rules(session)
    wanted = _heard(found)
    heard = [event for event in events if event.person_id is not None and event.type in wanted] if found else []
    people = {event.person_id for event in heard if event.person_id is not None}
    live = {event.person_id for event in heard if event.live}
    await recompute(session, sorted(people), quiet=people - live)


CONSUMER: Final = Consumer("scores", handle, concerning=concerning, only_with="score_rule")


async def recompute_page(session: TenantSession, after: UUID | None, *, quiet: bool) -> UUID | None:
    """Recompute the next people behind `after`, and their stages; return the last, None where these were all."""
    statement = select(Person.id).where(Person.tenant_id == session.tenant_id).order_by(Person.id).limit(PAGE)
    if after is not None:
        statement = statement.where(Person.id > after)
    people = list(await session.scalars(statement))
    silent = people if quiet else ()
    await recompute(session, people, quiet=silent, even_without_rules=True)
    # the score that qualifies may be another one
    await lifecycle.recompute(session, people, quiet=silent)
    return people[-1] if len(people) == PAGE else None


async def owe_all(session: TenantSession) -> None:
    """Have everybody's score and stage recomputed, as the rules are others now; what changes starts nothing."""
    await starts.owe(
        session, workflow=WORKFLOW, entity_id=new_id(), input=ScoresInput(tenant_id=session.tenant_id, quiet=True)
    )


async def follow_time(database: Database) -> None:
    """Have the scores of tenants recomputed whose rules speak of time; once a day, however often it is asked for."""
    async with database.system() as system:
        tenants = list(await system.scalars(select(Tenant.id)))
    day = datetime.now(UTC).date().isoformat()
    for tenant_id in tenants:
        async with database.tenant(tenant_id) as session:
            if any(rule.speaks_of_time for rule in await rules(session)):
                await starts.owe(
                    session,
                    workflow=WORKFLOW,
                    entity_id=uuid5(tenant_id, day),
                    input=ScoresInput(tenant_id=tenant_id, quiet=False),
                )
