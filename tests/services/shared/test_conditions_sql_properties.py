"""Random conditions over random rows decide the same in SQL as in memory."""

import operator
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.database import Database
from journeys.conditions import AllOf, AnyOf, Condition, EventCondition, Not
from journeys.durations import Duration, add, subtract, zone_named
from journeys.evaluate import Facts, evaluate
from journeys.literals import DATE_PATTERN, NUMBER_PATTERN, as_date, as_number
from tests.journeys import strategies
from tests.journeys.condition_cases import NOW
from tests.services.shared.condition_store import Store, condition_of, open_store

SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
COUNTS = {"=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
ZONES = ["UTC", "Europe/Berlin", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kathmandu"]
MIDDLE, LATE = 1001, 9998
EARLIEST, LATEST = datetime(1990, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001 - the strategy adds the zone
NOWS = st.just(NOW) | st.datetimes(EARLIEST, LATEST, timezones=st.just(UTC))
TEXTS = st.one_of(
    st.from_regex(NUMBER_PATTERN, fullmatch=True, alphabet=st.characters(max_codepoint=127)),
    st.from_regex(DATE_PATTERN, fullmatch=True, alphabet=st.characters(max_codepoint=127)),
    st.dates(date(1600, 1, 1), date(2400, 1, 1)).map(str),
    st.sampled_from(["pro", "true", "-", "[]", "{}", "null", "2024-02-29", "2026-02-29T10:00", "1900-02-29"]),
)
SCALARS = strategies.SCALARS | TEXTS
STEPS = ("a", "b", "cart.id", "it's", "0")
FIELDS = st.builds(
    "{}.{}".format, st.sampled_from(["person.attributes", "event.properties", "entry"]), st.sampled_from(STEPS)
) | st.sampled_from(["person.first_name", "person.is_lead", "person.qualified_at", "event.type", "event.occurred_at"])
HELD = st.dictionaries(
    st.sampled_from(["a", "b", "cart", "it's", "0"]),
    SCALARS
    | st.lists(SCALARS | st.none(), max_size=3)
    | strategies.json_values()
    | st.fixed_dictionaries({"id": SCALARS}),
)
AGES = st.sampled_from(
    [
        timedelta(0),
        timedelta(hours=1),
        timedelta(hours=1, microseconds=1),
        timedelta(days=3),
        timedelta(days=28),
        timedelta(days=40),
        timedelta(days=-1),
    ]
)
HAPPENED = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["order.placed", "page.viewed"]),
        "occurred_at": AGES.map(NOW.__sub__),
        "properties": HELD,
    }
)
PEOPLE = st.fixed_dictionaries(
    {
        "attributes": HELD,
        "first_name": st.none() | TEXTS,
        "is_lead": st.booleans(),
        "qualified_at": st.none() | AGES.map(NOW.__sub__) | st.datetimes(timezones=st.just(UTC)),
        "time_zone": st.none() | st.sampled_from(ZONES),
    }
)


def comparisons(fields: st.SearchStrategy[str] = FIELDS) -> st.SearchStrategy[dict[str, Any]]:
    """Comparisons of every operator with what it takes."""

    def of(ops: str, operand: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({"field": fields, "op": st.sampled_from(ops.split()), "value": operand})

    ordered = st.integers() | st.floats(-(10**9), 10**9) | TEXTS
    return st.one_of(
        of("= !=", SCALARS),
        of("> >= < <=", ordered),
        of("in not_in", st.lists(SCALARS, min_size=1, max_size=4)),
        of("contains starts_with", SCALARS),
        of("older_than newer_than anniversary_in", strategies.DURATIONS | st.sampled_from(["P1D", "P29D", "P366D"])),
        st.fixed_dictionaries({"field": fields, "op": st.sampled_from(["exists", "missing"])}),
    ).filter(is_condition)


def is_condition(raw: dict[str, Any]) -> bool:
    try:
        condition_of(raw)
    except ValueError:
        return False
    return True


def trees(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    counts = {"op": st.sampled_from(["=", "!=", ">=", ">", "<", "<="]), "value": st.integers(0, 3)}
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.fixed_dictionaries({"all": some}),
        st.fixed_dictionaries({"any": some}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries(
            {"event": strategies.EVENTS},
            optional={"count": st.fixed_dictionaries(counts), "within": strategies.DURATIONS, "where": inner},
        ),
    )


def in_memory(condition: Condition, facts: Facts, events: list[dict[str, Any]]) -> bool:
    """What the evaluator says, with the events counted as its docstring has it."""
    match condition:
        case AllOf():
            return all(in_memory(part, facts, events) for part in condition.conditions)
        case AnyOf():
            return any(in_memory(part, facts, events) for part in condition.conditions)
        case Not():
            return not in_memory(condition.condition, facts, events)
        case EventCondition():
            since = condition.within and subtract(facts.now, condition.within)
            number = sum(
                event["type"] == condition.event
                and (since is None or event["occurred_at"] >= since)
                and (condition.where is None or in_memory(condition.where, replace(facts, event=event), events))
                for event in events
            )
            return COUNTS[condition.count.op](number, condition.count.value)
        case _:
            return evaluate(condition, facts)


@pytest.fixture
async def store(database: Database, tenant_id: UUID) -> AsyncGenerator[Store]:
    async with open_store(database, tenant_id) as store:
        yield store


@SETTINGS
@given(
    raw=comparisons() | st.recursive(comparisons(), trees, max_leaves=5),
    people=st.lists(PEOPLE, min_size=1, max_size=4),
    events=st.lists(HAPPENED, max_size=4),
    trigger=HAPPENED,
    entry=HELD,
    now=NOWS,
)
async def test_random_conditions_decide_as_in_memory(
    store: Store,
    raw: dict[str, Any],
    people: list[dict[str, Any]],
    events: list[dict[str, Any]],
    trigger: dict[str, Any],
    entry: dict[str, Any],
    now: datetime,
) -> None:
    condition = condition_of(raw)
    async with store.session.begin_nested() as savepoint:
        ids = await store.add_people(*people)
        for person_id in ids:
            await store.add_events(person_id, *events)
        decided = await store.decide_all([condition], entry=entry, event=trigger, now=now)
        await savepoint.rollback()
    for person_id, person in zip(ids, people, strict=True):
        zone = zone_named(person["time_zone"] or "UTC")
        facts = Facts(now=now, person=person, event=trigger, entry=entry, zone=zone)
        assert decided[person_id] == [in_memory(condition, facts, events)]


@SETTINGS
@given(data=st.data(), raw=comparisons(st.just("person.attributes.x")), now=NOWS)
async def test_values_near_the_literal_decide_as_in_memory(
    store: Store, data: st.DataObject, raw: dict[str, Any], now: datetime
) -> None:
    near = st.sampled_from(list(neighbours(raw.get("value"), now)))
    held = data.draw(st.lists(near | SCALARS, min_size=1, max_size=12))
    condition = condition_of(raw)
    people = [{"attributes": {"x": value}, "time_zone": "Asia/Kathmandu"} for value in held]
    async with store.session.begin_nested() as savepoint:
        ids = await store.add_people(*people)
        decided = await store.decide_all([condition], now=now)
        await savepoint.rollback()
    for person_id, person in zip(ids, people, strict=True):
        facts = Facts(now=now, person=person, zone=zone_named("Asia/Kathmandu"))
        assert decided[person_id] == [evaluate(condition, facts)], person


def neighbours(literal: Any, now: datetime) -> Iterator[Any]:  # noqa: ANN401 - whatever JSON holds
    """Yield values that a comparison with the literal may take for it, or almost."""
    for one in cast("list[object]", literal) if isinstance(literal, list) else [literal]:
        yield from (one, [one], {"x": one}, [[one]], str(one), f"{one} ", f"{one}\n", f" {one}", [str(one)], f"{one}0")
        number = as_number(one)
        if number is not None:
            yield from (int(number), float(number) + 1, f"{number:f}", f"{number:f}0", f"-{number:f}", f"0{number:f}")
        instant = as_date(one)
        if instant and MIDDLE < instant.year < LATE:
            yield from (
                spelled for ahead in (-1, 0, 1) for spelled in spellings(instant + timedelta(microseconds=ahead))
            )
    if isinstance(literal, str) and literal.startswith("P"):
        for moved in (subtract(now, Duration.parse(literal)), add(now, Duration.parse(literal)), now):
            for days in (-1, 0, 1):
                day = moved + timedelta(days=days)
                yield from (*spellings(day), f"{day:%Y-%m-%d}", f"{day.year - 30}{day:-%m-%d}")
            yield from spellings(moved - timedelta(microseconds=1))


def spellings(instant: datetime) -> Iterator[str]:
    """Yield texts for an instant."""
    for offset in (timedelta(0), timedelta(hours=5, minutes=45), timedelta(hours=-14)):
        yield instant.astimezone(timezone(offset)).isoformat()
    naive = instant.astimezone(UTC).replace(tzinfo=None)
    yield from (naive.isoformat(), naive.isoformat(" "), f"{naive.isoformat()}Z", naive.date().isoformat())
