"""How the store answers what is asked of many things at once, as the application's role under row-level security."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from core.database import Database, TenantSession
from core.ids import new_ids
from models import Message, Order
from services.events import history
from services.identity import organization_people, profile, timeline
from services.marketing.segments import looking
from services.objects import associations
from services.shared.many import newest_of
from tests.services.identity.statements import nodes
from tests.services.identity.test_plans import plans

Ask = Callable[[TenantSession, list[UUID]], Awaitable[object]]


def newest(entity: Any, column: Any) -> Ask:  # noqa: ANN401 - a model and its column
    return lambda session, ids: newest_of(session, entity, column, ids, limit=5)


CASES: list[tuple[Ask, str]] = [
    (newest(Order, Order.person_id), "sales_order_tenant_id_person_id_id_idx"),
    (newest(Message, Message.person_id), "message_person_idx"),
    (lambda session, ids: timeline.pages(session, ids, 5, None), "event_person_idx"),
    (lambda session, ids: history.of_people(session, ids, 5, None, None), "event_person_idx"),
    (profile.engagements, "message_person_idx"),
    (looking.of_people, "segment_member_tenant_id_person_id_idx"),
    (
        lambda session, ids: associations.pages(session, [f"person:{each}" for each in ids], 5, None, None),
        "association_tenant_id_from_end_label_to_end_key",
    ),
    (
        lambda session, ids: organization_people.of_people(session, ids, limit=5, before=None, current=None),
        "organization_person_tenant_id_person_id_idx",
    ),
]


@pytest.mark.parametrize(("ask", "index"), CASES)
async def test_what_is_asked_of_many_is_read_off_the_index_of_each(
    database: Database, crowd: tuple[UUID, UUID], ask: Ask, index: str
) -> None:
    tenant_id, _ = crowd
    ids = new_ids(50)
    found = [
        each for plan in await plans(database, tenant_id, lambda session: ask(session, ids)) for each in nodes(plan)
    ]
    assert index in {each.get("Index Name") for each in found}, sorted({str(each.get("Index Name")) for each in found})
    scanned = {each["Relation Name"] for each in found if each["Node Type"] == "Seq Scan"}
    assert not scanned - {"tenant", "segment"}  # of which there are few
