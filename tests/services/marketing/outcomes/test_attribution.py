"""Orders credited to messages: the last touch within its window, kept live and computed again alike."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from core.ids import new_id
from models import Conversion, OrderFact, Tenant
from services.marketing.outcomes import attribution
from tests.factories.marketing import Marketing, event
from tests.services.marketing.outcomes.running import Running, running

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def click(hours: float, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - columns
    """A mail clicked so many hours before `NOW`."""
    return {"clicks": 1, "clicked_at": NOW - hours * HOUR, **more}


def opened(hours: float, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - columns
    """A mail opened so many hours before `NOW`."""
    return {"opens": 1, "opened_at": NOW - hours * HOUR, **more}


def touched(kind: str, hours: float) -> dict[str, Any]:
    """A message touched in this way so many hours before `NOW`."""
    if kind in {"sms", "push"}:
        return {"channel": kind, "sent_at": NOW - hours * HOUR, "status": "delivered"}
    return click(hours) if kind == "click" else opened(hours)


async def order(
    marketing: Marketing, person: UUID | None, key: str = "1", at: datetime = NOW, refunded: int = 0
) -> None:
    async with marketing.session() as session:
        await session.execute(
            insert(OrderFact).values(
                tenant_id=marketing.tenant_id,
                order_key=key,
                person_id=person,
                currency="EUR",
                total_minor=1000,
                refunded_minor=refunded,
                placed_at=at,
            )
        )


async def told(marketing: Marketing, person: UUID) -> None:
    async with marketing.session() as session:
        await attribution.handle(session, [event("person.orders_changed", person)])


async def conversions(marketing: Marketing) -> dict[str, tuple[Any, ...]]:
    async with marketing.session() as session:
        found = await session.scalars(select(Conversion).where(Conversion.tenant_id == marketing.tenant_id))
        return {
            row.order_key: (row.message_id, row.touch, row.touched_at, row.amount_minor, row.person_id) for row in found
        }


async def credited(made: Running, person: UUID, rows: list[dict[str, Any]]) -> int | None:
    """Return the index of the message that an order of now is credited to."""
    ids = await made.add([{"person_id": person, **row} for row in rows])
    await order(made.marketing, person)
    await told(made.marketing, person)
    found = await conversions(made.marketing)
    return ids.index(found["1"][0]) if found else None


async def test_the_latest_touch_gets_it(marketing: Marketing) -> None:
    made, person = await running(marketing), await marketing.person()
    rows = [click(5), opened(2), click(3), click(-1), opened(130), {"machine_clicks": 1, "clicked_at": NOW}]
    assert await credited(made, person, rows) == 1


async def test_a_click_beats_an_open_of_the_same_moment(marketing: Marketing) -> None:
    made, person = await running(marketing), await marketing.person()
    assert await credited(made, person, [opened(1), click(1), opened(1)]) == 1


async def test_each_channel_has_its_window(marketing: Marketing) -> None:
    made, person = await running(marketing), await marketing.person()
    rows = [
        click(120),  # at its end it is over
        {"channel": "sms", "sent_at": NOW - 12 * HOUR},
        {"channel": "push", "sent_at": NOW - 23 * HOUR},
        {"channel": "sms", "sent_at": NOW - HOUR, "status": "failed"},
        {"channel": "email", "sent_at": NOW - HOUR},
        click(1, campaign_id=None),  # of no campaign or journey
    ]
    assert await credited(made, person, rows) == 2
    async with marketing.session() as session:
        await session.execute(
            update(Tenant).where(Tenant.id == marketing.tenant_id).values(attribution_hours={"push": 1, "sms": 13})
        )
    await told(marketing, person)
    assert (await conversions(marketing))["1"][1:3] == ("delivery", NOW - 12 * HOUR)


async def test_a_refund_lowers_what_it_brought_and_an_order_counts_once(marketing: Marketing) -> None:
    made, person = await running(marketing), await marketing.person()
    await credited(made, person, [click(1)])
    async with marketing.session() as session:
        await session.execute(
            update(OrderFact).where(OrderFact.tenant_id == marketing.tenant_id).values(refunded_minor=400)
        )
    await told(marketing, person)
    await told(marketing, person)
    assert [row[3] for row in (await conversions(marketing)).values()] == [600]


async def test_what_is_no_longer_after_a_touch_is_credited_no_longer(marketing: Marketing) -> None:
    made, person = await running(marketing), await marketing.person()
    await credited(made, person, [click(1)])
    async with marketing.session() as session:
        moved = update(OrderFact).where(OrderFact.tenant_id == marketing.tenant_id)
        await session.execute(moved.values(placed_at=NOW - 2 * HOUR))
    await told(marketing, person)
    assert await conversions(marketing) == {}


async def test_of_somebody_erased_it_stays(marketing: Marketing) -> None:
    made, person = await running(marketing), await marketing.person()
    await credited(made, person, [click(1)])
    async with marketing.session() as session:
        for table in (OrderFact, Conversion):
            await session.execute(update(table).where(table.tenant_id == marketing.tenant_id).values(person_id=None))
        await attribution.recompute_page(session, since=None, until=None, after=None)
    assert [row[4] for row in (await conversions(marketing)).values()] == [None]


async def test_only_the_period_is_computed_again(marketing: Marketing) -> None:
    made, person = await running(marketing), await marketing.person()
    await made.add([{"person_id": person, **click(50)}])
    for day in range(3):
        await order(marketing, person, f"{day}", NOW - 24 * day * HOUR)
    async with marketing.session() as session:
        people = await attribution.recompute_page(session, since=NOW - 25 * HOUR, until=NOW - HOUR, after=None)
    assert people == (1, None)
    assert set(await conversions(marketing)) == {"1"}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    touches=st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["click", "open", "sms", "push"]), st.integers(-5, 130)),
        max_size=8,
    ),
    orders=st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 100)), max_size=5),
)
async def test_computed_again_it_is_as_it_was_kept(
    marketing: Marketing, touches: list[tuple[int, str, int]], orders: list[tuple[int, int]]
) -> None:
    made, people = await running(marketing), await marketing.people(2)
    await made.add([{"person_id": people[who], **touched(kind, hours)} for who, kind, hours in touches])
    for who, hours in orders:
        await order(marketing, people[who], str(new_id()), NOW - hours * HOUR)
        await told(marketing, people[who])
    kept = await conversions(marketing)
    async with marketing.session() as session:
        await session.execute(delete(Conversion).where(Conversion.tenant_id == marketing.tenant_id))
        await attribution.recompute_page(session, since=None, until=None, after=None)
    assert await conversions(marketing) == kept
