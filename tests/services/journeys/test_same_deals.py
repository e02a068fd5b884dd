"""Deals walk a journey the same ways in a simulation as really, their nodes' own changes heard by the journey."""

import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from core.ids import new_id
from journeys.state import TimerFired
from models import Deal, Event
from services.crm import journey_nodes, telling
from services.crm.stages import Stage
from services.events.bus import EventRow
from services.journeys.simulation import tally
from services.journeys.simulation.simulating import STRETCH
from services.marketing import journey_sends
from tests.factories.marketing import Marketing, walk
from tests.factories.selling import Selling
from tests.services.journeys.simulations import simulated
from tests.services.journeys.virtual_cohorts import Crowd, foretold, virtual_marketing

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
LASTING = timedelta(days=4)
MOMENT = timedelta(microseconds=1)
SIZE = 3
ACTIONS = {**journey_sends.ACTIONS, **journey_nodes.ACTIONS}
HOT = {"field": "deal.attributes.hot", "op": "=", "value": True}

NODES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"type": "wait", "for": "PT3H"},
        {"type": "wait", "for": "PT20H"},
        {"type": "wait_for_event", "event": "deal.moved", "timeout": "PT30H"},
        {"type": "wait_for_event", "event": "deal.updated", "timeout": "PT6H"},
        {"type": "branch", "when": HOT},
        {"type": "branch", "when": {"field": "deal.stage", "op": "=", "value": "offer"}},
        {"type": "branch", "when": {"field": "deal.status", "op": "=", "value": "open"}},
        {"type": "branch", "when": {"field": "deal.probability", "op": ">", "value": 60}},
        {"type": "move_deal", "stage": "new"},
        {"type": "move_deal", "stage": "won"},
        {"type": "move_deal", "stage": "lost", "lost_reason": "price"},
        {"type": "update_deal", "set": {"attributes.hot": True}},
        {"type": "update_deal", "set": {"attributes.hot": None, "probability": 90}},
    ]
)
LEFT = {"event": "deal.stage_left", "where": {"field": "event.properties.stage", "op": "=", "value": "offer"}}
ENDINGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={"exit_when": st.just([LEFT]), "goal": st.just({"event": "deal.won", "within": "P2D"})}
)
AGAIN = st.sampled_from([{"mode": "never"}, {"mode": "when_not_active"}, {"mode": "always"}])
MOVES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, SIZE - 1), st.sampled_from(["offer", "offer", "new", "won"])),
    min_size=2,
    max_size=6,
)


@dataclass(frozen=True, slots=True)
class Happening:
    """A deal that somebody moved."""

    at: datetime
    number: int
    stage: Stage
    events: Sequence[EventRow]


def chained(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return nodes that follow one another."""
    names = [f"n{number}" for number in range(len(nodes))]
    found: dict[str, Any] = {}
    for name, node, following in zip(names, nodes, [*names[1:], "done"], strict=True):
        match node["type"]:
            case "branch":
                branches = [{"when": node["when"], "next": following}]
                found[name] = {"type": "branch", "branches": branches, "otherwise": "done"}
            case "wait_for_event":
                found[name] = {**node, "match": {}, "matched": following, "timed_out": following}
            case _:
                found[name] = {**node, "next": following}
    return found


@dataclass
class Office:
    """A tenant's deals and those who walk with them."""

    crowd: Crowd
    deals: Sequence[UUID]
    heard: int = 0

    async def walk(self, happenings: Sequence[Happening]) -> None:
        """Do what happened, and all that comes of it."""
        self.heard = await self.crowd.connection.fetchval("SELECT coalesce(max(position), 0) FROM event")
        for happening in happenings:
            await self.advance(happening.at - MOMENT)
            await self.crowd.connection.execute(
                "UPDATE deal SET stage_id = $2, status = $3, closed_at = CASE WHEN $3 <> 'open' THEN now() END,"
                " lost_reason = NULL WHERE id = $1",
                self.deals[happening.number],
                happening.stage.id,
                happening.stage.kind,
            )
            await self._hear(happening.events, happening.at)
            await self._settle(happening.at)
        await self.advance(START + LASTING)
        await self.crowd.set_clock(None)

    async def advance(self, until: datetime) -> None:
        """Do what falls due by then."""
        while (due := min((c.wake for c in self.crowd.cohorts if c.wake is not None), default=until + MOMENT)) <= until:
            for cohort in self.crowd.cohorts:
                if cohort.wake is not None and cohort.wake <= due:
                    await cohort.feed(TimerFired(), due)
            await self._settle(due)

    async def _settle(self, at: datetime) -> None:
        """Let it be heard what nodes did, until they do no more."""
        while True:
            async with self.crowd.marketing.session() as session:
                found = await session.scalars(
                    select(Event)
                    .where(Event.tenant_id == session.tenant_id, Event.position > self.heard)
                    .order_by(Event.position)
                )
                rows = list(found)
            if not rows:
                return
            self.heard = rows[-1].position
            # Written before the node's passage went on, as really.
            await self._hear(
                [_row(row, at - MOMENT, next(_positions)) for row in rows if row.subject_type == "deal"], at
            )

    async def _hear(self, events: Sequence[EventRow], at: datetime) -> None:
        await self.crowd.set_clock(at)
        await self.crowd.marketing.hear(*events)
        await self.crowd.learn(at)


def _row(row: Any, at: datetime, position: int) -> EventRow:  # noqa: ANN401 - a stored event, or one to be
    return EventRow(
        id=new_id(),
        type=row.type,
        subject_type="deal",
        subject_id=row.subject_id,
        person_id=row.person_id,
        properties=row.properties,
        occurred_at=at,
        received_at=at,
        live=True,
        position=position,
    )


@pytest.fixture
async def office(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[Marketing, dict[str, Stage]]]:
    """A tenant with a pipeline, in a store whose clock can be set."""
    monkeypatch.setattr(tally, "SAMPLES", 400)
    async with virtual_marketing(empty_database_url) as marketing:
        yield marketing, await Selling(marketing.database, marketing.tenant_id).pipeline()


async def happening(
    marketing: Marketing, stages: Mapping[str, Stage], deals: Sequence[UUID], moves: Sequence[tuple[int, int, str]]
) -> list[Happening]:
    """Return moves as they would be told, each from where the one before led."""
    async with marketing.session() as session:
        rows = await session.execute(select(Deal.__table__).where(Deal.tenant_id == session.tenant_id))
        row_of = {row["id"]: dict(row) for row in rows.mappings()}
    stands = [stages["new"]] * len(deals)
    found: list[Happening] = []
    for n, (hours, number, key) in enumerate(sorted(moves)):
        left, stands[number] = stands[number], stages[key]
        if left.key != key:
            at = START + timedelta(hours=hours, seconds=n + 1)
            told = telling.moved(row_of[deals[number]], left, stages[key])
            found.append(Happening(at, number, stages[key], [_row(each, at, next(_positions)) for each in told]))
    return found


_positions = itertools.count(1_000_000_000)


@given(
    nodes=st.lists(NODES, min_size=2, max_size=5),
    endings=ENDINGS,
    again=AGAIN,
    moves=MOVES,
)
@example(
    nodes=[
        {"type": "update_deal", "set": {"attributes.hot": True}},
        {"type": "branch", "when": HOT},
        {"type": "wait", "for": "PT20H"},
        {"type": "update_deal", "set": {"probability": 90}},
        {"type": "update_deal", "set": {"attributes.hot": None}},
        {"type": "move_deal", "stage": "won"},
        {"type": "wait_for_event", "event": "deal.moved", "timeout": "PT30H"},
    ],
    endings={"exit_when": [LEFT]},
    again={"mode": "always"},
    moves=[(1, 0, "offer"), (2, 1, "offer"), (5, 1, "new"), (6, 1, "offer"), (40, 0, "new")],
)
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_deals_go_the_same_ways(
    office: tuple[Marketing, dict[str, Stage]],
    nodes: list[dict[str, Any]],
    endings: dict[str, Any],
    again: dict[str, str],
    moves: list[tuple[int, int, str]],
) -> None:
    # What one move tells is heard before anybody goes on, in a simulation one after the other.
    assume("goal" not in endings or all(node.get("event") != "deal.moved" for node in nodes))
    marketing, stages = office
    selling = Selling(marketing.database, marketing.tenant_id)
    people = [await marketing.person(), None, None]
    deals = [await selling.deal(stages["new"], person_id=person) for person in people]
    entry = {
        "event": "deal.stage_entered",
        "where": {"field": "event.properties.stage", "op": "=", "value": "offer"},
        "again": again,
    }
    definition = {"subject": "deal", **walk(entry=entry, **chained(nodes)), **endings}
    happenings = await happening(marketing, stages, deals, moves)
    assume(happenings)
    async with marketing.session() as session:
        await session.execute(
            insert(Event),
            [
                {
                    "tenant_id": marketing.tenant_id,
                    "id": new_id(),
                    "type": each.type,
                    "subject_type": "deal",
                    "subject_id": each.subject_id,
                    "person_id": each.person_id,
                    "properties": each.properties,
                    "occurred_at": each.occurred_at - STRETCH,
                    "received_at": each.received_at - STRETCH,
                }
                for one in happenings
                for each in one.events
            ],
        )
    version = await marketing.journey(definition, key=f"j{new_id().hex}")
    found = await simulated(
        marketing, definition, deals, begin=START, journey_id=version.journey_id, lasting=LASTING, by_events=True
    )
    async with marketing.superuser() as connection:
        crowd = Crowd(marketing, version, connection, actions=ACTIONS)
        await Office(crowd, deals).walk(happenings)
    assert foretold(found) == await crowd.ways()
