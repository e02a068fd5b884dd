"""Somebody known to every table there is, and the search for what is left of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import text

from core.database import Database
from core.ids import new_id
from models import Base

SECRET = "xyzzy"
EMAIL = f"{SECRET}@shop.example"
PHONE = "+493012345678"
EXTERNAL = f"{SECRET}-4711"


@dataclass(slots=True)
class Known:
    """A person, and rows of other tables that the test needs again."""

    person_id: UUID
    alias_id: UUID = field(default_factory=new_id)
    ids: dict[str, UUID] = field(default_factory=dict[str, UUID])


class Rows:
    """Inserts rows of any table, filling what must not be null."""

    def __init__(self, database: Database, tenant_id: UUID) -> None:
        self._database = database
        self._tenant_id = tenant_id

    async def add(self, table: str, **values: Any) -> UUID:  # noqa: ANN401 - columns
        """Insert a row; return its id."""
        columns = Base.metadata.tables[table].columns
        given = {"tenant_id": self._tenant_id, **values}
        if "id" in columns:
            given.setdefault("id", new_id())
        async with self._database.tenant(self._tenant_id) as session:
            await session.execute(Base.metadata.tables[table].insert().values(given))
        return given.get("id", self._tenant_id)


async def everywhere(rows: Rows, journey: Mapping[str, UUID], template_version: UUID) -> Known:
    """Add somebody who is in every table whose rows are of people."""
    known = Known(await rows.add("person", email=EMAIL, phone=PHONE, external_id=EXTERNAL, first_name=SECRET))
    person, ids = known.person_id, known.ids
    other = await rows.add("person", email="other@shop.example", first_name="Other")
    ids["other"] = other
    for kind, value in (("email", EMAIL), ("phone", PHONE), ("external_id", EXTERNAL), ("anonymous_id", SECRET * 3)):
        await rows.add("person_identifier", kind=kind, value=value, person_id=person)
    ids["merge"] = await rows.add(
        "person_merge",
        winner_id=person,
        loser_id=known.alias_id,
        source="api",
        actor="cli",
        loser={"first_name": SECRET},
        winner_changes={},
        counts={},
    )
    await rows.add(
        "person_merge_row", merge_id=ids["merge"], table_name="person_identifier", row_key={}, before={"value": EMAIL}
    )
    await rows.add("person_alias", id=known.alias_id, person_id=person, merge_id=ids["merge"])
    await rows.add("consent", person_id=person, channel="email", topic="general", status="opted_in")
    await rows.add(
        "consent_change",
        person_id=person,
        channel="email",
        topic="general",
        status="opted_in",
        evidence={"ip": SECRET},
        actor="cli",
    )
    for subject in (person, known.alias_id):
        await rows.add(
            "activity",
            subject_type="person",
            subject_id=subject,
            type="person.updated",
            actor="cli",
            changes={"email": [None, EMAIL], "first_name": ["old", SECRET]},
        )
    ids["event"] = await rows.add(
        "event", type="order.placed", subject_id=person, person_id=person, properties={"email": EMAIL}
    )
    await rows.add("dead_event", consumer="orders", event_id=ids["event"], error=f"bad {SECRET}")
    await rows.add(
        "order_fact", order_key="o-1", person_id=person, currency="EUR", total_minor=10_000, refunded_minor=0
    )
    ids["enrollment"] = await rows.add(
        "enrollment",
        journey_id=journey["journey"],
        version_id=journey["version"],
        cohort_id=journey["cohort"],
        slot=0,
        subject_type="person",
        subject_id=person,
        person_id=person,
        entry={"email": EMAIL},
        entry_key=EMAIL,
        node="wait",
        problem={"error": SECRET},
        status="waiting",
    )
    await rows.add(
        "enrollment_step",
        enrollment_id=ids["enrollment"],
        node="first",
        visit=1,
        entered_at=_now(),
        outcome="done",
        attempt=1,
        detail={"seen": SECRET},
    )
    await rows.add(
        "activity",
        subject_type="enrollment",
        subject_id=ids["enrollment"],
        type="enrollment.exited",
        actor="cli",
        changes={"reason": [None, f"{SECRET} called"]},
    )
    await rows.add(
        "journey_refusal",
        subject_id=person,
        journey_id=journey["journey"],
        version_id=journey["version"],
        reason="already_active",
    )
    await rows.add(
        "waiter",
        enrollment_id=ids["enrollment"],
        node="wait",
        visit=1,
        cohort_id=journey["cohort"],
        slot=0,
        version_id=journey["version"],
        event_type="order.placed",
        subject_id=person,
        match={"email": EMAIL},
    )
    ids["simulation"] = await rows.add(
        "journey_simulation", journey_id=journey["journey"], definition={}, request={}, created_by="cli"
    )
    await rows.add(
        "journey_simulation_sample", simulation_id=ids["simulation"], number=0, person_id=person, steps=[SECRET]
    )
    for status in ("queued", "sent", "failed"):
        ids[status] = await rows.add(
            "message",
            person_id=person,
            channel="email",
            address=EMAIL,
            template_version_id=template_version,
            dedupe_key=f"campaign:{status}",
            status=status,
            page_id=None if status == "queued" else new_id(),
            provider_id=f"20260101-{EMAIL}.eml",
            reason=f"550 {EMAIL} unknown" if status == "failed" else None,
        )
    await rows.add("suppression", channel="email", address=EMAIL, reason="complaint")
    await rows.add("suppression", channel="sms", address=PHONE, reason=f"{SECRET} called us")
    await rows.add("suppression", channel="email", address="other@shop.example", reason="manual")
    await rows.add(
        "activity",
        subject_type="tenant",
        subject_id=journey["tenant"],
        type="suppression.added",
        actor="cli",
        changes={"email": [None, EMAIL]},
    )
    ids["address"] = await rows.add(
        "address", subject_type="person", subject_id=person, purposes=["home"], street=SECRET, country="DE"
    )
    await rows.add(
        "activity",
        subject_type="address",
        subject_id=ids["address"],
        type="address.created",
        actor="cli",
        changes={"street": [None, SECRET]},
    )
    organization = await rows.add("organization", name="Shop", name_key="shop", currency="EUR")
    await rows.add(
        "organization_person",
        organization_id=organization,
        person_id=person,
        kind="employee",
        title=SECRET,
    )
    await rows.add("association", label=SECRET, from_person_id=person, to_organization_id=organization)
    for table, more in (("segment_member", {}), ("segment_flip", {"at": _now()})):
        await rows.add(table, segment_id=new_id(), person_id=person, **more)
    await rows.add("device", person_id=person, token=SECRET, platform="ios")
    await rows.add("short_link", person_id=person, code=new_id().hex, message_id=new_id(), target=SECRET)
    await rows.add("message_click", person_id=person, message_id=ids["sent"], link=1, url=SECRET, clicks=1)
    await rows.add(
        "communication",
        person_id=person,
        channel="call",
        body=SECRET,
        thread_id=new_id(),
        occurred_at=_now(),
        created_by="cli",
    )
    await rows.add(
        "conversion",
        person_id=person,
        order_key="o-1",
        message_id=new_id(),
        channel="email",
        touch="click",
        touched_at=_now(),
        converted_at=_now(),
        currency="EUR",
        amount_minor=100,
    )
    await _in_sales(rows, person, organization)
    await _in_shop(rows, person)
    low, high = sorted((person, other))
    await rows.add("duplicate_candidate", person_a=low, person_b=high, score=90, reasons=[])
    run = await rows.add("duplicate_run", created_by="cli")
    await rows.add("duplicate_block", run_id=run, block=SECRET, person_id=person)
    people_import = await rows.add(
        "people_import",
        format="csv",
        size_bytes=1,
        mapping={},
        options={},
        created_by="cli",
        report={"samples": [{"email": EMAIL.upper()}]},
    )
    for line, content in enumerate((f"a,{EMAIL.upper()}", "0049 30 1234 5678", f'"{EXTERNAL}";x', f"{EXTERNAL}1"), 2):
        await rows.add(
            "import_reject", import_id=people_import, line=line, reason="bad", content=content.replace("0049", "49")
        )
    for key, body in (("by-id", str(person)), ("by-alias", str(known.alias_id)), ("by-email", EMAIL), ("other", "{}")):
        await rows.add(
            "idempotency_key", key=key, request_hash=b"", status=201, headers={}, body=f'{{"x":"{body}"}}'.encode()
        )
    return known


async def _in_sales(rows: Rows, person: UUID, organization: UUID) -> None:
    pipeline = await rows.add("pipeline", key="sales", name="Sales")
    stage = await rows.add("pipeline_stage", pipeline_id=pipeline, key="new", name="New", position=1, probability=10)
    at = {"pipeline_id": pipeline, "stage_id": stage, "currency": "EUR"}
    await rows.add("deal", title=SECRET, person_id=person, attributes={"name": SECRET}, **at)
    company = await rows.add("deal", title="Fleet", organization_id=organization, **at)
    await rows.add("deal_contact", deal_id=company, person_id=person, role="champion")
    await rows.add("task", title=f"Call {SECRET}", note=PHONE, person_id=person, created_by="cli")
    mate = await rows.add("user_account", email="mate@team.example", name="Mate", password_hash="x", role="admin")
    await rows.add("notification", user_id=mate, title=SECRET, person_id=person)
    await rows.add("outgoing_call", url="https://shop.example", body={"email": EMAIL}, person_id=person, source_key="c")
    endpoint = await rows.add("webhook_endpoint", url="https://shop.example", event_types=["*"], secret=b"sealed")
    told = {"event_type": "order.placed", "subject_id": person, "person_id": person, "position": 1}
    await rows.add("webhook_delivery", endpoint_id=endpoint, answer={"status": 200, "body": EMAIL}, **told)


async def _in_shop(rows: Rows, person: UUID) -> None:
    product = await rows.add("product", key="cup", name="Cup")
    variant = await rows.add("variant", product_id=product, sku="cup-1")
    await rows.add("variant_watch", variant_id=variant, kind="stock", person_id=person)
    private = {"email": EMAIL, "shipping_address": {"name": SECRET}, "attributes": {"note": SECRET}}
    cart = await rows.add("cart", person_id=person, currency="EUR", **private)
    discount = await rows.add("discount", code="SPRING", kind="shipping")
    await rows.add("discount_use", discount_id=discount, cart_id=cart, person_id=person)
    total = {"payment_status": "unpaid", "currency": "EUR", "subtotal_minor": 100, "total_minor": 100}
    await rows.add("sales_order", number=1, person_id=person, note=SECRET, **total, **private)


def _now() -> Any:  # noqa: ANN401 - SQL
    return text("now()")


async def left_of(connection: "asyncpg.Connection[Any]", tenant_id: UUID, *needles: str) -> dict[str, list[str]]:
    """Return the rows, by table, in which any of these texts can be found, in any of their columns."""
    found: dict[str, list[str]] = {}
    for table in Base.metadata.sorted_tables:
        if "tenant_id" not in table.columns:
            continue
        for row in await connection.fetch(f"SELECT * FROM {table.name} WHERE tenant_id = $1", tenant_id):
            written = json.dumps({name: _readable(value) for name, value in row.items()}).lower()
            if any(needle.lower() in written for needle in needles):
                found.setdefault(table.name, []).append(written)
    return found


def _readable(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
