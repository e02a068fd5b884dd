"""Dates and schedules let the same people in at the same moments, in a simulation as by the real looks.

The real looks are those of every moment at which somebody's date may come round, and of the schedule.
"""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contracts.journey_entries import EntryInput, EntryPage
from core.actor import CLI
from core.ids import new_id
from journeys.durations import zone_named
from services.journeys import by_clock, date_entries
from services.journeys.simulation import tally
from services.marketing import cron_entries
from services.marketing.segments import definitions, membership
from services.shared.cron import next_time
from tests.factories.marketing import Marketing, walk
from tests.services.journeys.simulations import simulated
from tests.services.journeys.virtual_cohorts import Crowd, foretold, virtual_marketing

START = datetime(2026, 3, 26, 7, 20, tzinfo=UTC)  # the clocks of Europe change on the 29th
LASTING = timedelta(days=5)
ZONES = (None, "Asia/Kolkata", "America/New_York")
TENANT_ZONE = "Europe/Berlin"
CRONS = ("30 6 * * *", "15 */12 * * *", "0 9 * * 1")
FIRST = timedelta(microseconds=1)
DAYS = st.sampled_from(["2026-03-27", "2025-03-29", "2024-02-29", "2020-04-02", "1990-03-28", "2026-03-30T22:30:00Z"])

OF_DATE: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "date": st.just("person.attributes.day"),
        "yearly": st.booleans(),
        "offset": st.sampled_from(["P0D", "-P3D", "P1D"]),
        "at": st.sampled_from(["02:30", "09:00", "17:45"]),
    }
)
AGAIN: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"mode": st.sampled_from(["never", "when_not_active"])}, optional={"min_gap": st.just("PT20H")}
) | st.fixed_dictionaries(
    {"mode": st.just("always"), "overlap": st.sampled_from(["ignore", "restart", "parallel"])},
    optional={"min_gap": st.just("PT20H")},
)
SCHEDULED: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"cron": st.sampled_from(CRONS), "segment": st.just("loyal"), "again": AGAIN}
)


@dataclass
class Looks:
    """The real ways in, taken at every moment that may matter."""

    crowd: Crowd

    def _moments(self) -> Iterator[tuple[datetime, int]]:
        for ordinal, entry in enumerate(self.crowd.version.definition.to_json()["entry"]):
            if "cron" in entry:
                at = next_time(entry["cron"], TENANT_ZONE, START)
                while at is not None and at <= START + LASTING:
                    yield at, ordinal
                    at = next_time(entry["cron"], TENANT_ZONE, at)
                continue
            of_day = time.fromisoformat(entry["at"])
            for zone in ZONES:
                for days in range(-1, LASTING.days + 2):
                    day = (START + timedelta(days=days)).date()
                    yield datetime.combine(day, of_day, zone_named(zone or TENANT_ZONE)).astimezone(UTC), ordinal
            # An hour that the clocks skip ends before the look that its time of day would be due at.
            yield datetime(2026, 3, 29, 1, tzinfo=UTC) + timedelta(minutes=of_day.minute % 15), ordinal

    async def take(self) -> None:
        """Let everybody in by them, and walk whom they let in."""
        for at, ordinal in sorted({each for each in self._moments() if START < each[0] <= START + LASTING}):
            await self._advance(at - FIRST)
            await self._look(at, ordinal)
        await self._advance(START + LASTING)
        await self.crowd.set_clock(None)

    async def _advance(self, until: datetime) -> None:
        for cohort in self.crowd.cohorts:
            await cohort.advance(until)

    async def _look(self, at: datetime, ordinal: int) -> None:
        await self.crowd.set_clock(at)
        entry = self.crowd.version.definition.entries[ordinal].model_dump(by_alias=True)
        what = str(entry["date"]) if "date" in entry else entry["segment"]
        asked = EntryInput(
            tenant_id=self.crowd.marketing.tenant_id,
            journey_id=self.crowd.version.journey_id,
            ordinal=ordinal,
            what=what,
            since=START,
        )
        async with self.crowd.marketing.session() as session:
            look = date_entries.page if "date" in entry else cron_entries.page
            await look(session, EntryPage(entry=asked, due_at=at))
        await self.crowd.learn(at)


@pytest.fixture
async def opening(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Marketing]:
    """A tenant in a store whose clock can be set; nothing is late by it."""

    def never_late(_due_at: datetime) -> bool:
        return False

    monkeypatch.setattr(by_clock, "is_late", never_late)
    monkeypatch.setattr(tally, "SAMPLES", 400)
    async with virtual_marketing(empty_database_url) as marketing:
        async with marketing.superuser() as connection:
            await connection.execute("UPDATE tenant SET time_zone = $2 WHERE id = $1", marketing.tenant_id, TENANT_ZONE)
        yield marketing


@given(
    entries=st.lists(OF_DATE | SCHEDULED, min_size=1, max_size=3),
    days=st.lists(st.tuples(DAYS, st.sampled_from(ZONES), st.booleans()), min_size=2, max_size=3),
    lasting=st.sampled_from(["PT6H", "PT12H", "PT30H"]),
    then=st.sampled_from(["add_to_segment", "remove_from_segment"]),
)
@example(
    entries=[
        {"date": "person.attributes.day", "yearly": True, "offset": "P0D", "at": "02:30"},
        {"cron": "15 */12 * * *", "segment": "loyal", "again": {"mode": "always", "overlap": "restart"}},
    ],
    days=[("2025-03-29", None, True), ("2024-02-29", "Asia/Kolkata", False), ("2025-03-28", "America/New_York", False)],
    lasting="PT30H",
    then="add_to_segment",
)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_simulation_lets_in_whom_the_real_looks_do(
    opening: Marketing,
    entries: list[dict[str, Any]],
    days: list[tuple[str, str | None, bool]],
    lasting: str,
    then: str,
) -> None:
    # Those of the examples before have no such day, and are in another segment.
    mine = f"of_{new_id().hex}"
    entries = [
        entry | ({"date": f"person.attributes.{mine}"} if "date" in entry else {"segment": mine}) for entry in entries
    ]
    people = [await opening.person(attributes={mine: day}, time_zone=zone) for day, zone, _ in days]
    loyal = [who for who, (*_, is_loyal) in zip(people, days, strict=True) if is_loyal]
    async with opening.session() as session:
        segment = await definitions.create(session, {"key": mine, "name": "Loyal", "kind": "static"}, by=CLI)
        await membership.add(session, segment, loyal, source="manual", live=set(loyal), by=CLI)
    definition = walk(
        entry=entries,
        nap={"type": "wait", "for": lasting, "next": "then"},
        then={"type": then, "segment": mine, "next": "done"},
    )
    version = await opening.journey(definition, key=mine)
    # Before anybody really walks, and so changes.
    found = await simulated(
        opening, definition, people, begin=START, journey_id=version.journey_id, lasting=LASTING, by_events=True
    )
    async with opening.superuser() as connection:
        crowd = Crowd(opening, version, connection, tenant_zone=TENANT_ZONE)
        await Looks(crowd).take()
    real = await crowd.ways()
    assert foretold(found) == real
    assert found.report["entered"] == real.total()
