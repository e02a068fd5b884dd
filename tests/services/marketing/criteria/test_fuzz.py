"""Criteria made by chance: good ones mean what PostgreSQL takes them for, any text at all is refused or harmless."""

import asyncio
import re
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.errors import InvalidError
from services.marketing import criteria
from services.marketing.criteria import running
from services.marketing.criteria.catalog import VIEWS
from tests.services.marketing.criteria.found import FOUND
from tests.services.marketing.criteria.generated import conditions, selects
from tests.services.marketing.criteria.refused import REFUSED
from tests.services.marketing.criteria.spelling import spelled_from_known_words
from tests.services.marketing.criteria.store import Store


def fuzzed(examples: int) -> settings:
    return settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
async def as_written(store: Store, database_url: str) -> AsyncGenerator["asyncpg.Connection[Any]"]:
    """A connection that sees the tenant's views by the names that users know, for the text itself to run on."""
    connection = await asyncpg.connect(database_url, server_settings={"TimeZone": "UTC", "jit": "off"})
    schema = f"as_written_{store.tenant_id.hex}"
    await connection.execute(f"CREATE SCHEMA {schema}")
    for view, columns in VIEWS.items():
        await connection.execute(
            f"CREATE VIEW {schema}.{view} AS SELECT {', '.join(columns)} FROM criteria_{view}"
            f" WHERE tenant_id = '{store.tenant_id}'"
        )
    await connection.execute(f"SET search_path = {schema}")
    yield connection
    await connection.execute(f"DROP SCHEMA {schema} CASCADE")
    await connection.close()


async def meant(connection: "asyncpg.Connection[Any]", store: Store, sql: str) -> str:
    """What PostgreSQL finds by the text itself."""
    sql = re.sub(r"^\s*where\b", "", sql, flags=re.IGNORECASE).rstrip("; ")
    if not re.match(r"[\s(]*(select|with)\b", sql, re.IGNORECASE) or re.match(r"\(select (count|sum|max)\b", sql):
        sql = f"SELECT person_id FROM people WHERE {sql}"
    rows = await connection.fetch(f"SELECT DISTINCT person_id FROM ({sql}) AS text WHERE person_id IS NOT NULL")
    return store.letters([row["person_id"] for row in rows])


OTHERWISE = ("{other}", "event_id as person_id", "score = any(select 10)", "- '2026-01-05T09:00Z'", "where n = 1 and")
"""What of the corpus PostgreSQL would take otherwise: what is nobody, and what it asks more care for."""


@pytest.mark.parametrize("sql", [sql for sql in FOUND if not any(part in sql for part in OTHERWISE)])
async def test_the_corpus_means_what_postgres_takes_it_for(
    sql: str, store: Store, as_written: "asyncpg.Connection[Any]"
) -> None:
    assert await meant(as_written, store, sql) == FOUND[sql]


@pytest.fixture(scope="module")
async def short_times() -> AsyncGenerator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREVIEW_TIMEOUT", "PAGES_TIMEOUT", "HOLDS_TIMEOUT", "CHECK_TIMEOUT"):
            patch.setattr(running, name, timedelta(seconds=2))
        yield


@fuzzed(150)
@given(sql=st.one_of(conditions(), selects()))
async def test_good_criteria_mean_what_postgres_takes_them_for(
    sql: str, store: Store, other_store: Store, as_written: "asyncpg.Connection[Any]", short_times: None
) -> None:
    parsed = criteria.parse(sql)
    assert spelled_from_known_words(parsed.sql)
    assert await store.found(sql) == await meant(as_written, store, sql)
    found = await criteria.preview(store.database, store.tenant_id, parsed, limit=100)
    assert found.count == len(found.sample)
    assert set(found.sample) <= set(store.people.values())


CORPUS = [*FOUND, *(sql for sql in REFUSED if len(sql) < 300)]
TOKENS = sorted(
    {token for sql in CORPUS for token in re.findall(r"'[^']*'|\w+|\s+|[^\w\s]", sql) if len(token) < 40}
    | {"pg_sleep(9)", "tenant_id", "person", "public.", "--", "/*", "*/", ";", "$1", "E'\\x'", "::regclass", "lateral"}
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Criteria of the corpus, with some of their words taken out, doubled, moved, or put in from others."""
    begun = draw(st.sampled_from([*FOUND, *FOUND, *FOUND, *CORPUS]))  # most of what is refused stays so
    words = re.findall(r"'[^']*'|\w+|\s+|[^\w\s]", begun)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(words)))
        match draw(st.sampled_from(["out", "double", "in", "swap", "splice"])):
            case "out":
                del words[at : at + draw(st.integers(1, 3))]
            case "double":
                words[at:at] = words[at : at + draw(st.integers(1, 6))]
            case "in":
                words.insert(at, draw(st.sampled_from(TOKENS)))
            case "swap":
                words[at:] = [*words[at:][1:2], *words[at:][:1], *words[at:][2:]]
            case _:
                other = re.findall(r"'[^']*'|\w+|\s+|[^\w\s]", draw(st.sampled_from(CORPUS)))
                start = draw(st.integers(0, len(other)))
                words[at:at] = other[start : start + draw(st.integers(1, 12))]
    return "".join(words)


def told(error: InvalidError, sql: str) -> bool:
    """Check that an error says what it must and no more; False, as what it tells of was not let through."""
    assert [problem.field for problem in error.errors] == ["sql"]
    assert "shop.example" in sql or "shop.example" not in str(error)
    return False


async def refused_or_harmless(store: Store, sql: str) -> bool:
    """Run any text; whether it was let through."""
    try:
        parsed = criteria.parse(sql)
    except InvalidError as error:
        return told(error, sql)
    assert spelled_from_known_words(parsed.sql), sql
    try:
        found = await criteria.preview(store.database, store.tenant_id, parsed, limit=100)
    except InvalidError as error:
        return told(error, sql)
    assert set(found.sample) <= set(store.people.values())
    return True


@fuzzed(600)
@given(sql=mutated())
async def test_what_was_tampered_with_is_refused_or_harmless(
    sql: str, store: Store, other_store: Store, short_times: None
) -> None:
    await refused_or_harmless(store, sql)


@fuzzed(200)
@given(
    sql=st.one_of(
        st.text(max_size=200),
        st.lists(st.sampled_from(TOKENS), max_size=40).map("".join),
        st.lists(st.sampled_from(TOKENS), max_size=30).map(" ".join).map("select person_id from people where ".__add__),
        st.binary(max_size=200).map(lambda data: data.decode("utf-8", "surrogateescape")),
    )
)
@example(sql="select\x00")
@example(sql="\udcff")
@example(sql="'" * 9_999)
@example(sql='"' * 9_999)
@example(sql="/*" * 4_999)
@example(sql="$" * 9_999)
@example(sql="case " * 1_999)
@example(sql="select " * 1_400)
@example(sql="with x as (" * 900)
@example(sql="a.b.c.d.e.f.g" * 700)
@example(sql="a::int" + "::int" * 1_900)
@example(sql="a" + "->'b'" * 1_900)
@example(sql="a" + "[1]" * 3_000)
@example(sql="1" + "e1" * 4_000)
@example(sql="not not not " * 800)
@example(sql="interval " * 1_100)
@example(sql="a between " * 990)
@example(sql="a in (select " * 700)
@example(sql="a is not " * 1_100)
@example(sql="a < any " * 1_100)
@example(sql="date " * 1_900)
@example(sql="x'" + "f" * 9_000 + "'")
@example(sql="a at time zone " * 600)
@example(sql="over (" * 1_600)
@example(sql="b" + " collate c" * 900)
@example(sql="1" + "|" * 9_000)
@example(sql="1" + " or 1" * 1_900)
@example(sql="1" + " union select 1" * 600)
@example(sql="select 1" + " union select 1" * 600)
@example(sql="select 1 from a" + " join a" * 1_300)
@example(sql="select 1 from a" + ", (select 1" * 900)
@example(sql="a like " * 1_400)
@example(sql="a ? " * 2_400)
@example(sql="{" * 5_000)
@example(sql="[" * 5_000)
async def test_any_text_is_refused_or_harmless(sql: str, store: Store, short_times: None) -> None:
    await asyncio.wait_for(refused_or_harmless(store, sql), timeout=60)
