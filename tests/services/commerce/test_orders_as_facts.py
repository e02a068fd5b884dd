"""Our own orders count as an outside shop's do: for roles, totals, segments and what messages brought."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text

from core.actor import CLI
from models import Conversion, Person
from services.commerce import cancelling
from services.marketing.outcomes import attribution
from tests.factories.marketing import Marketing
from tests.factories.ordering import Ordering
from tests.factories.segmenting import Segments
from tests.services.marketing.outcomes.running import running

BIG = {"related": "order", "where": {"field": "order.total", "op": ">", "value": 20}}
LIVING = {"related": "order", "where": {"field": "order.counts", "op": "=", "value": True}}
BOUGHT = {"event": "order.placed", "where": {"field": "event.properties.total", "op": ">", "value": 20}}


async def test_an_order_makes_a_customer_and_a_cancellation_unmakes_one(marketing: Marketing) -> None:
    made, segments = await running(marketing), Segments(marketing)
    shop = Ordering(marketing.database, marketing.tenant_id)
    ann, shirt, company = await marketing.person(), await shop.variant(), await shop.company()
    for key, rules in (("big", BIG), ("living", LIVING), ("bought", BOUGHT)):
        await segments.add(key, rules)
    clicked = {"person_id": ann, "clicks": 1, "clicked_at": datetime.now(UTC) - timedelta(hours=1)}
    (message,) = await made.add([clicked])
    order = await shop.order({shirt: 3}, person_id=ann, organization_id=company, on_account=True)

    async def known() -> tuple[bool, str, list[tuple[int, int]], list[tuple[UUID, int]], dict[str, bool]]:
        await segments.relay()
        changed = await segments.events("person.orders_changed")
        async with marketing.session() as session:
            await attribution.handle(session, changed)
        async with marketing.session() as session:
            person = await session.get_one(Person, (marketing.tenant_id, ann))
            totals = await session.execute(
                text("SELECT order_count, spent_minor FROM commerce_customer_totals WHERE tenant_id = :tenant"),
                {"tenant": marketing.tenant_id},
            )
            brought = await session.scalars(select(Conversion).where(Conversion.tenant_id == marketing.tenant_id))
            return (
                person.is_customer,
                person.lifecycle_stage,
                [(row[0], row[1]) for row in totals],
                [(one.message_id, one.amount_minor) for one in brought],
                {key: ann in await segments.members(key) for key in ("big", "living", "bought")},
            )

    everywhere = {"big": True, "living": True, "bought": True}
    assert await known() == (True, "customer", [(1, 3000)], [(message, 3000)], everywhere)
    async with shop.session() as session:
        await cancelling.cancel(session, order, by=CLI)
    left = {"big": True, "living": False, "bought": True}
    assert await known() == (False, "subscriber", [(0, 0)], [(message, 0)], left)
    async with shop.session() as session:
        balance = text("SELECT balance_minor FROM organization WHERE tenant_id = :tenant")
        assert await session.scalar(balance, {"tenant": marketing.tenant_id}) == 0
