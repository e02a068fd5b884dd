"""What is known of each order, ours or an outside shop's, folded from its events.

Placed again, the latest placement (by when it occurred) wins. Refunds add up; one may come before its placement.
What will never be paid of a cancelled order counts as given back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, DateTime, Text, Uuid

from contracts.events import ORDER_CANCELLED, ORDER_PLACED, ORDER_REFUNDED, PERSON_ORDERS_CHANGED, PERSON_UNMERGED
from core.database import TenantSession
from models import OrderFact
from services.events.bus import Consumer, EventRow
from services.events.incoming import amount, order_id
from services.events.publish import NewEvent, publish
from services.identity import lifecycle, scoring

_SAVE: Final = text("""
    INSERT INTO order_fact (tenant_id, order_key, person_id, currency, total_minor, refunded_minor, placed_at)
    SELECT :tenant AS tenant_id, o.* FROM unnest(:keys, :people, :currencies, :totals, :refunds, :placed) AS o
    ON CONFLICT (tenant_id, order_key) DO UPDATE
    SET person_id = excluded.person_id, currency = excluded.currency, total_minor = excluded.total_minor,
        refunded_minor = excluded.refunded_minor, placed_at = excluded.placed_at
""").bindparams(
    bindparam("keys", type_=ARRAY(Text)),
    bindparam("people", type_=ARRAY(Uuid)),
    bindparam("currencies", type_=ARRAY(Text)),
    bindparam("totals", type_=ARRAY(BigInteger)),
    bindparam("refunds", type_=ARRAY(BigInteger)),
    bindparam("placed", type_=ARRAY(DateTime(timezone=True))),
)

# An order folded while its buyer was part of another person is in no merge's journal; its placement tells whose it is.
_GIVE_BACK: Final = text("""
    UPDATE order_fact o SET person_id = e.person_id
    FROM event e
    WHERE e.tenant_id = :tenant AND e.person_id = :loser AND e.type = 'order.placed'
      AND o.tenant_id = :tenant AND o.order_key = coalesce(e.properties ->> 'order_id', e.id::text)
      AND o.person_id = :winner AND o.placed_at = e.occurred_at
    RETURNING o.order_key
""").bindparams(bindparam("loser", type_=Uuid), bindparam("winner", type_=Uuid))


@dataclass(slots=True)
class _Order:
    person_id: UUID | None
    """None once the person was erased."""
    currency: str
    total_minor: int = 0
    refunded_minor: int = 0
    placed_at: datetime | None = None

    def place(self, event: EventRow, person_id: UUID, total_minor: int, currency: str) -> None:
        if self.placed_at is not None and event.occurred_at < self.placed_at:
            return
        if currency != self.currency:
            self.refunded_minor = 0  # it was no refund of this order
        self.person_id, self.currency, self.total_minor = person_id, currency, total_minor
        self.placed_at = event.occurred_at

    def refund(self, total_minor: int, currency: str) -> None:
        if currency != self.currency:
            raise ValueError(f"a refund in {currency} of an order in {self.currency}")
        self.refunded_minor += total_minor


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Fold orders' events into their facts, and bring the roles and stages of their people in line.

    Where a merge was taken back, orders follow their events to the person who is there again.

    Raises:
        InvalidError: an event has no proper amount.
        ValueError: a refund is in another currency than its order.
    """
    keyed = [
        (order_id(event.properties) or str(event.id), event.person_id, event)
        for event in events
        if event.person_id is not None and event.type != PERSON_UNMERGED and _tells(event)
    ]
    orders = await _load(session, {key for key, _, _ in keyed})
    touched = {order.person_id for order in orders.values() if order.person_id is not None}
    for key, person_id, event in keyed:
        minor, currency = _amount(event)
        order = orders.setdefault(key, _Order(person_id, currency))
        if event.type == ORDER_PLACED:
            order.place(event, person_id, minor, currency)
        else:
            order.refund(minor, currency)
        if order.person_id is not None:
            touched.add(order.person_id)
    await _save(session, orders)
    live = {person for _, person, event in keyed if event.live}
    # For whoever reads the facts: the orders' own events came before them.
    await publish(session, [NewEvent(PERSON_ORDERS_CHANGED, person, live=person in live) for person in sorted(touched)])
    await lifecycle.recompute(session, sorted(touched), quiet=touched - live)
    await scoring.recompute(session, sorted(touched), quiet=touched - live)
    await _give_back(session, [event for event in events if event.type == PERSON_UNMERGED])


def _tells(event: EventRow) -> bool:
    """Whether an event says something of what is paid: a shop may cancel orders without."""
    return event.type != ORDER_CANCELLED or "unpaid" in event.properties


def _amount(event: EventRow) -> tuple[int, str]:
    if event.type != ORDER_CANCELLED:
        return amount(event.properties)
    return amount({**event.properties, "total": event.properties["unpaid"]})


CONSUMER: Final = Consumer(
    "orders", handle, frozenset({ORDER_PLACED, ORDER_REFUNDED, ORDER_CANCELLED, PERSON_UNMERGED})
)


async def _give_back(session: TenantSession, events: Sequence[EventRow]) -> None:
    parted = {(UUID(event.properties["winner_id"]), UUID(event.properties["loser_id"])) for event in events}
    for winner, loser in sorted(parted):
        given = await session.execute(_GIVE_BACK, {"tenant": session.tenant_id, "winner": winner, "loser": loser})
        if given.all():
            await publish(session, [NewEvent(PERSON_ORDERS_CHANGED, each, live=False) for each in (winner, loser)])
        await lifecycle.recompute(session, [winner, loser], quiet=[winner, loser])
        await scoring.recompute(session, [winner, loser], quiet=[winner, loser])


async def _load(session: TenantSession, keys: set[str]) -> dict[str, _Order]:
    rows = await session.scalars(
        select(OrderFact)
        .where(OrderFact.tenant_id == session.tenant_id, OrderFact.order_key.in_(keys))
        .order_by(OrderFact.order_key)
        .with_for_update()  # a merge, or one taken back, may be moving them
        .execution_options(populate_existing=True)
    )
    return {
        row.order_key: _Order(row.person_id, row.currency, row.total_minor, row.refunded_minor, row.placed_at)
        for row in rows
    }


async def _save(session: TenantSession, orders: dict[str, _Order]) -> None:
    if not orders:
        return
    rows = sorted(orders.items())
    await session.execute(
        _SAVE,
        {
            "tenant": session.tenant_id,
            "keys": [key for key, _ in rows],
            "people": [order.person_id for _, order in rows],
            "currencies": [order.currency for _, order in rows],
            "totals": [order.total_minor for _, order in rows],
            "refunds": [order.refunded_minor for _, order in rows],
            "placed": [order.placed_at for _, order in rows],
        },
    )
