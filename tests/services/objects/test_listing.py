"""Filtering, sorting and paging agree with a list in memory, whichever way a page is read."""

import contextlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.actor import CLI
from core.database import Database
from journeys.attributes import comparison_problem
from journeys.conditions import FieldCondition, walk
from journeys.evaluate import Facts, evaluate
from services.objects import definitions, filters, listing, plans, records
from services.objects.judging import Item
from services.objects.plans import Asked, Connection, Plan
from services.objects.shapes import shape_of
from services.objects.values import encode
from services.objects.wanted import Wanted

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "name": {"type": ["string", "null"]},
        "number": {"type": "number"},
        "plain": {"type": "integer"},
        "flag": {"type": "boolean"},
        "day": {"type": "string", "format": "date"},
        "moment": {"type": "string", "format": "date-time"},
        "kind": {"enum": ["a", "b", "c"]},
        "mixed": {"type": ["string", "number", "boolean"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "inside": {"type": "object", "properties": {"text": {"type": "string"}}},
    },
    "additionalProperties": False,
}
INDEXED = ["text", "name", "number", "flag", "day", "moment", "kind", "mixed"]
WORDS = st.sampled_from(
    ["", "a", "ab", "abc", "b", "ü", "\\", "x'y", "5", "true", "2026-01-01", "x" * 300, "x" * 300 + "y"]
)
SOME_WORDS = WORDS.filter(lambda word: word != "")
NUMBERS = st.sampled_from([-10, -1.5, 0, 0.5, 5, 5.0, 7, 10, 10**20])
DAYS = st.sampled_from(["2025-12-31", "2026-01-01", "2026-01-02", "2026-06-15"])
MOMENTS = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00.5Z", "2026-06-30T23:59:60Z"]
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": WORDS,
    "name": WORDS | st.none(),
    "number": NUMBERS,
    "plain": st.sampled_from([-1, 0, 5, 7]),
    "flag": st.booleans(),
    "day": DAYS,
    "moment": MOMENTS,
    "kind": st.sampled_from(["a", "b", "c"]),
    "mixed": WORDS | NUMBERS | st.booleans(),
    "tags": st.lists(WORDS, max_size=2),
    "inside": st.fixed_dictionaries({"text": WORDS}),
}
RECORDS = st.lists(st.fixed_dictionaries({}, optional=VALUES), min_size=1, max_size=12)
ORDERING = st.sampled_from([">", ">=", "<", "<="])


def asked(name: str, op: st.SearchStrategy[str], value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"field": st.just(f"entry.{name}"), "op": op, "value": value})


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    equality = st.sampled_from(["=", "!="])
    given_by = {name: values for name, values in VALUES.items() if name not in {"name", "tags", "inside"}}
    return st.one_of(
        *(asked(name, equality, values) for name, values in given_by.items()),
        *(
            asked(name, st.sampled_from(["in", "not_in"]), st.lists(values, min_size=1, max_size=3))
            for name, values in given_by.items()
        ),
        *(asked(name, ORDERING, NUMBERS) for name in ("number", "plain", "mixed")),
        *(asked(name, ORDERING, DAYS | st.just("2026-01-01T00:00:00.25Z")) for name in ("day", "moment")),
        *(asked(name, st.just("starts_with"), SOME_WORDS) for name in ("text", "name", "kind", "mixed")),
        *(asked(name, st.sampled_from(["older_than", "newer_than"]), st.just("P30D")) for name in ("day", "moment")),
        asked("tags", st.just("contains"), SOME_WORDS),
        asked("text", st.just("contains"), SOME_WORDS),
        asked("inside.text", equality, WORDS),
        st.sampled_from(sorted(VALUES)).flatmap(
            lambda name: st.fixed_dictionaries(
                {"field": st.just(f"entry.{name}"), "op": st.sampled_from(["exists", "missing"])}
            )
        ),
    ).filter(_means_something)


TYPES = shape_of(uuid4(), SCHEMA).properties


def _means_something(raw: dict[str, Any]) -> bool:
    condition = FieldCondition.model_validate(raw)
    defined = TYPES[condition.field.path[0]] if len(condition.field.path) == 1 else None
    return defined is None or comparison_problem(defined, condition) is None


FILTERS = st.none() | st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"all": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"any": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=4,
)
SORTS = st.sampled_from(["id", "-id", "created_at", "-updated_at", *INDEXED, *(f"-{name}" for name in INDEXED)])


def expected(stored: Mapping[UUID, dict[str, Any]], condition: dict[str, Any] | None, sort: str) -> list[UUID]:
    """What a list in memory gives."""
    good = [record_id for record_id, properties in stored.items() if condition is None or holds(condition, properties)]
    name, descending = sort.removeprefix("-"), sort.startswith("-")
    good.sort(reverse=descending)
    if name in VALUES:
        good.sort(key=lambda record_id: key(stored[record_id].get(name), name), reverse=descending)
        good.sort(key=lambda record_id: stored[record_id].get(name) is None)
    return good


def key(value: object, name: str) -> str:
    return encode(value, dates=name in {"day", "moment"})


def holds(condition: dict[str, Any], properties: dict[str, Any]) -> bool:
    read = filters.parse(json.dumps(condition))
    return evaluate(read, Facts(now=datetime.now(UTC), entry=properties))


async def pages(connection: Connection, plan: Plan, limit: int, look: int | None) -> list[UUID]:
    """All pages, read by index from the beginning or after looking at so many in order."""
    found: list[UUID] = []
    place: listing.Place | None = listing.START
    while place is not None:
        if look is not None:
            plan.habit.look = look
        page = await listing._read(connection, plan, limit, place)  # pyright: ignore[reportPrivateUsage]  # past the kept plans
        assert len(page.records) <= limit
        found += [record.id for record in page.records]
        place = page.next
    return found


@pytest.mark.parametrize("example", range(3))
async def test_a_list_is_what_a_list_in_memory_gives(
    database: Database, tenant_id: UUID, example: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Many filters of the same records, so that most of the time is spent on what is tested.
    made: list[tuple[list[dict[str, Any]], list[tuple[dict[str, Any] | None, str, int]]]] = []

    @hypothesis.seed(example)
    @hypothesis.settings(max_examples=4, database=None, phases=[hypothesis.Phase.generate])
    @given(RECORDS, st.lists(st.tuples(FILTERS, SORTS, st.integers(1, 4)), min_size=12, max_size=12))
    def draw(stored: list[dict[str, Any]], lists: list[tuple[dict[str, Any] | None, str, int]]) -> None:
        made.append((stored, lists))

    draw()
    for number, (given_records, lists) in enumerate(made):
        object_key = f"thing_{number}"
        async with database.tenant(tenant_id) as session:
            await definitions.create(session, object_key, Wanted(name="Thing", schema=SCHEMA, indexed=INDEXED), by=CLI)
            done = await records.upsert(session, object_key, [Item(properties=one) for one in given_records], by=CLI)
        assert not done.rejected
        stored = {record_id: one for record_id, one in zip(done.ids, given_records, strict=True) if record_id}
        for condition, sort, limit in lists:
            filter_text = (
                None if condition is None else json.dumps(condition).replace('"entry.', f'"record:{object_key}.')
            )
            async with database.hot(tenant_id) as hot:
                connection = cast("Connection", hot)
                asked_for = Asked(tenant_id, object_key, filter_text, sort, datetime.now(UTC).date())
                wanted = expected(stored, condition, sort)
                for look, step in ((0, 1), (0, 1_000), (256, 1_000), (None, 1_000)):
                    monkeypatch.setattr(listing, "_MAX_STEP", step)
                    plan = await plans.make(connection, asked_for)
                    assert await pages(connection, plan, limit, look) == wanted, (filter_text, sort, limit, look, step)


TEXT = ["a", "ab", "b", "\\", "x'y", "2026-01-01", "x" * 300]
SAMPLES: dict[str, list[Any]] = {
    "text": TEXT,
    "name": TEXT,
    "number": [-1.5, 0, 5, 10],
    "plain": [-1, 0, 5, 7],
    "flag": [True, False],
    "day": ["2025-12-31", "2026-01-01", "2026-06-15"],
    "moment": ["2026-01-01T00:00:00Z", "2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00.5Z"],
    "kind": ["a", "b"],
    "mixed": ["a", 5, "5", True],
}
OPERATORS = ("=", "!=", "in", "not_in", ">", ">=", "<", "<=", "starts_with", "contains", "older_than", "newer_than")


def _every_condition() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, samples in SAMPLES.items():
        for op in OPERATORS:
            operands: list[Any] = [[one] for one in samples] + [samples[:2]] if op in {"in", "not_in"} else samples
            for value in ["P30D", "P1Y"] if op.endswith("_than") else operands:
                raw = {"field": f"entry.{name}", "op": op, "value": value}
                with contextlib.suppress(ValueError):
                    FieldCondition.model_validate(raw)
                    found += [raw] if _means_something(raw) else []
    return found


async def test_the_indexes_find_all_that_each_operator_lets_through(database: Database, tenant_id: UUID) -> None:
    items = [{name: samples[number % len(samples)] for name, samples in SAMPLES.items()} for number in range(12)]
    async with database.tenant(tenant_id) as session:
        wanted = Wanted(name="Thing", schema=SCHEMA, indexed=INDEXED)
        await definitions.create(session, "thing", wanted, by=CLI)
        done = await records.upsert(session, "thing", [Item(properties=one) for one in [*items, {}]], by=CLI)
    stored = {record_id: one for record_id, one in zip(done.ids, [*items, {}], strict=True) if record_id}
    conditions = _every_condition()
    assert len(conditions) > 150
    async with database.hot(tenant_id) as hot:
        connection = cast("Connection", hot)
        for condition in conditions:
            filter_text = json.dumps(condition).replace('"entry.', '"record:thing.')
            plan = await plans.make(connection, Asked(tenant_id, "thing", filter_text, "id", datetime.now(UTC).date()))
            assert await pages(connection, plan, 50, 0) == expected(stored, condition, "id"), filter_text


async def test_where_no_index_helps_a_page_is_short_and_the_next_goes_on(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.tenant(tenant_id) as session:
        await definitions.create(session, "thing", Wanted(name="Thing", schema=SCHEMA, indexed=INDEXED), by=CLI)
        items = [Item(properties={"plain": number, "number": number % 7}) for number in range(1_000)]
        done = await records.upsert(session, "thing", items, by=CLI)
    monkeypatch.setattr(listing, "MAX_READ", 1)
    monkeypatch.setattr(listing, "STEPS", (4, 16, 64, 128))
    rare = json.dumps({"field": "record:thing.plain", "op": "in", "value": [5, 700, 701, 702]})
    for sort, order in (("id", [5, 700, 701, 702]), ("-id", [702, 701, 700, 5]), ("number", [700, 701, 702, 5])):
        found: list[UUID] = []
        read = 0
        place: listing.Place | None = listing.START
        while place is not None:
            async with database.hot(tenant_id) as hot:
                page = await listing.page(
                    cast("Connection", hot), tenant_id, "thing", filter_text=rare, sort=sort, limit=50, start=place
                )
            found += [record.id for record in page.records]
            place, read = page.next, read + 1
        assert found == [done.ids[number] for number in order], sort
        assert read > 10, "each page looked at a few"


@pytest.fixture
def learned(database: Database, tenant_id: UUID) -> Callable[..., Any]:
    async def learn(condition: dict[str, Any]) -> list[int]:
        """How many records were looked at in order before each of four pages of the same filter."""
        looks: list[int] = []
        async with database.hot(tenant_id) as hot:
            connection = cast("Connection", hot)
            asked_for = Asked(tenant_id, "thing", json.dumps(condition), "id", datetime.now(UTC).date())
            plan = await plans.make(connection, asked_for)
            for _ in range(4):
                looks.append(plan.habit.look)
                await listing._read(connection, plan, 50, listing.START)  # pyright: ignore[reportPrivateUsage]  # as above
        return looks

    return learn


async def test_whether_to_look_or_to_ask_the_index_is_learned(
    database: Database, tenant_id: UUID, learned: Callable[..., Any]
) -> None:
    async with database.tenant(tenant_id) as session:
        await definitions.create(session, "thing", Wanted(name="Thing", schema=SCHEMA, indexed=INDEXED), by=CLI)
        for start in range(0, 4_000, 1_000):
            items = [
                Item(properties={"plain": number % 1_000, "text": "early" if number < 2_000 else "late"})
                for number in range(start, start + 1_000)
            ]
            await records.upsert(session, "thing", items, by=CLI)
    rare = {"field": "record:thing.plain", "op": "=", "value": 7}
    assert await learned(rare) == [1_024, 0, 0, 0], "four in all"
    assert await learned({"field": "record:thing.text", "op": "=", "value": "early"}) == [1_024] * 4
    assert await learned({"field": "record:thing.text", "op": "=", "value": "late"}) == [1_024, 16_384, 16_384, 16_384]


def test_the_strategies_ask_of_every_property() -> None:
    asked_of: set[str] = set()

    @hypothesis.settings(max_examples=300, database=None)
    @given(leaves())
    def draw(raw: dict[str, Any]) -> None:
        asked_of.update(
            part.field.path[0] for part in walk(FieldCondition.model_validate(raw)) if isinstance(part, FieldCondition)
        )

    draw()
    assert asked_of == set(VALUES)
