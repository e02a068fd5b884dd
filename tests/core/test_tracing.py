"""Where spans are made and where not, what rows keep of them, and what is never told."""

from collections.abc import Generator
from uuid import UUID

import httpx
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from core import tracing
from core.database import Database
from core.database_spans import summary
from core.exporting import wanted
from core.ids import new_id
from integrations.traced import TracedTransport
from models import Event
from services.events.publish import NewEvent, publish
from tests.tracing import Spans, parent_of, traced, traceparent

FIRST = f"00-{1:032x}-{1:016x}-01"
SECOND = f"00-{2:032x}-{2:016x}-01"


@pytest.fixture
def spans() -> Generator[Spans]:
    with traced() as spans:
        yield spans


def test_what_was_kept_goes_on_in_the_first_trace_with_links_to_the_others(spans: Spans) -> None:
    for kept in ([], [None, None], ["nonsense", FIRST.replace("-01", "-00")]):
        with tracing.continued(kept, "nothing", attributes={}):
            assert tracing.current() is None
            with tracing.span("inside"):
                pass
    with tracing.continued([None, FIRST, FIRST, SECOND], "work", attributes={tracing.COUNT: 4}):
        here = tracing.current()
        assert here is not None
        assert here.startswith(FIRST[:35])
    assert spans.names == ["work"]
    (span,) = spans.all
    assert (parent_of(span), span.kind, span.attributes) == (FIRST, SpanKind.CONSUMER, {tracing.COUNT: 4})
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(2, 2)]


def test_an_error_is_told_by_its_class_alone(spans: Spans) -> None:
    def work_badly() -> None:
        library = tracing.Continuing()
        with tracing.continued([FIRST], "work", attributes={}), library.start_as_current_span("library") as span:
            span.record_exception(ValueError("Grace Hopper"))
            raise ValueError("Grace Hopper")

    with pytest.raises(ValueError, match="Grace"):
        work_badly()
    of_library, work = spans.all
    assert work.attributes == {"error.type": "ValueError"}
    assert not work.status.is_ok
    assert "Grace" not in of_library.to_json() + work.to_json()


def test_what_is_over_or_not_traced_is_not_gone_on_with(spans: Spans) -> None:
    library = tracing.Continuing()
    with tracing.entered({}, "request", attributes={}) as request:
        request.end()
        assert tracing.current() is None
        with tracing.span("late"), library.start_as_current_span("late too"):
            assert tracing.current() is None
    with tracing.entered({"traceparent": FIRST.replace("-01", "-00")}, "unsampled", attributes={}):
        assert (tracing.current(), tracing.identifiers()) == (None, None)
        assert library.start_span("unsampled too").get_span_context().is_valid is False
    assert spans.names == ["request"]


async def test_rows_keep_the_span_that_wrote_them(database: Database, tenant_id: UUID) -> None:
    async def write(subject: UUID) -> None:
        async with database.tenant(tenant_id) as session:
            await publish(session, [NewEvent("test.one", subject, "thing"), NewEvent("test.two", subject, "thing")])

    hot = "INSERT INTO event (tenant_id, id, type, subject_type, subject_id) VALUES ($1, $2, 'test.hot', 'thing', $3)"

    async def write_hot(subject: UUID) -> None:
        async with database.hot(tenant_id) as connection:
            await connection.execute(hot, tenant_id, new_id(), subject)

    async def kept(subject: UUID) -> set[str | None]:
        async with database.tenant(tenant_id) as session:
            asked = select(Event.trace).where(Event.tenant_id == tenant_id, Event.subject_id == subject)
            return set((await session.scalars(asked)).all())

    before, during, after, off = (new_id() for _ in range(4))
    with traced() as spans:
        await write(before)
        await write_hot(before)
        with tracing.entered({}, "request", attributes={}):
            await write(during)
            await write_hot(during)
        await write(after)
        await write_hot(after)  # by the same connection: its pool lends the last one returned
    await write(off)
    assert await kept(during) == {traceparent(spans.one("request"))}
    assert await kept(before) == await kept(after) == await kept(off) == {None}
    inserts = [span for span in spans.all if span.name == "INSERT event"]
    assert [parent_of(span) for span in inserts] == [traceparent(spans.one("request"))] * 2
    assert all("text" not in name for span in inserts for name in span.attributes or {})


async def test_a_statement_that_fails_is_a_span_with_its_code(
    database: Database, tenant_id: UUID, spans: Spans
) -> None:
    with pytest.raises(DBAPIError), tracing.entered({}, "request", attributes={}):
        async with database.tenant(tenant_id) as session:
            await session.execute(text("SELECT no_such FROM event WHERE tenant_id = :tenant"), {"tenant": tenant_id})
    failed = spans.one("SELECT event")
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "42703"
    assert "no_such" not in failed.to_json()


async def test_a_sampler_that_says_no_costs_no_span(database: Database, tenant_id: UUID) -> None:
    with traced(ALWAYS_OFF) as spans, tracing.entered({}, "request", attributes={}):
        async with database.tenant(tenant_id) as session:
            await publish(session, [NewEvent("test.one", new_id(), "thing")])
    assert spans.names == []


async def test_receivers_are_told_and_providers_are_not(spans: Spans) -> None:
    told: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append(request.headers.get("traceparent"))
        return httpx.Response(503)

    for telling in (True, False):
        transport = TracedTransport(httpx.MockTransport(answer), telling=telling)
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("https://shop.example/grace?email=grace@example.com")
            with tracing.entered({}, "request", attributes={}):
                await client.get("https://shop.example/grace?email=grace@example.com")
    got = [span for span in spans.all if span.name == "GET"]
    assert told == [None, traceparent(got[0]), None, None]
    assert got[1].attributes == {
        "http.request.method": "GET",
        "server.address": "shop.example",
        "http.response.status_code": 503,
        "error.type": "503",
    }


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT id FROM person WHERE tenant_id = $1 FOR UPDATE SKIP LOCKED", ("SELECT", "person")),
        ("WITH a AS (SELECT 1 FROM person) INSERT INTO message (id) SELECT 1 FROM a", ("INSERT", "message")),
        ("INSERT INTO cohort (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET size = 1", ("INSERT", "cohort")),
        ("UPDATE message_page AS page SET size = 1 FROM x", ("UPDATE", "message_page")),
        ("DELETE FROM waiter d USING x", ("DELETE", "waiter")),
        ("SELECT e.id FROM unnest($1::uuid[]) AS g(id) JOIN (SELECT id FROM event) e ON true", ("SELECT", "event")),
        ("SELECT t.oid FROM pg_catalog.pg_type AS t", None),
        ("SAVEPOINT sa_savepoint_1", None),
        ("SELECT set_config('app.tenant_id', $1, true)", None),
    ],
)
def test_a_statement_is_told_by_what_it_does_to_which_table(statement: str, told: tuple[str, str] | None) -> None:
    assert summary(statement) == told


def test_without_an_endpoint_nothing_is_traced() -> None:
    here = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert wanted(here)
    assert wanted({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"})
    assert not wanted({})
    assert not wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": ""})
    assert not wanted({**here, "OTEL_SDK_DISABLED": "true"})
    assert not wanted({**here, "OTEL_TRACES_EXPORTER": "none"})
