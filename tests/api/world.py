"""What a call of any route needs: things of a tenant to name in its address, and a body where it takes one.

A route of a new noun needs a maker of the name in its path (`widget_id`), and an entry in `BODIES` where it takes a
body, in `QUERIES` where it asks for parameters. Braces in those are filled with what the makers made. Tests that call
every route fail for one that cannot be called.
"""

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import func, insert, select, update

from core.actor import CLI
from core.database import Database
from core.ids import new_id
from models import (
    CampaignRun,
    Cohort,
    DeadEvent,
    DuplicateCandidate,
    Enrollment,
    Event,
    Message,
    Order,
    OutgoingCall,
    SegmentRefresh,
    TemplateVersion,
)
from services.marketing.campaigns import control
from services.tenancy import api_keys, sessions, tenants
from services.tenancy.sessions import Origin
from tests.api.conformance import DOCUMENT
from tests.api.conftest import serving
from tests.factories.goods import goods
from tests.factories.marketing import EXIT
from tests.factories.ordering import Ordering
from tests.factories.teammates import PASSWORD, add_user, address, token_of

MARK: Final = "Xyzzy"
"""In names of a world's things, and in no request: an answer that holds it shows the world."""

JOURNEY: Final[dict[str, Any]] = {
    "entry": {"api": True, "again": {"mode": "always"}},
    "start": "nap",
    "nodes": {"nap": {"type": "wait", "for": "P30D", "next": "done"}, "done": EXIT},
}


PLACE: Final = {"street": "Weg 1", "city": "Bonn", "postal_code": "53111", "country": "DE"}

LINKED: Final = {"from": "person", "to": "organization"}
NEW_LINK: Final[dict[str, Any]] = {
    "from": {"type": "organization", "id": "{organization_id}"},
    "to": {"type": "person", "id": "{person_id}"},
    "label": "supplier",
}

FORM: Final[dict[str, Any]] = {
    "fields": [{"name": "email", "label": "Email", "type": "email", "required": True, "maps_to": "email"}]
}

PRODUCT_REQUEST: Final[dict[str, Any]] = {
    "name": "Product request",
    "schema": {
        "type": "object",
        "properties": {"productName": {"type": "string"}, "quantity": {"type": "integer"}},
        "required": ["productName"],
    },
    "indexed": ["quantity"],
}


@dataclass(frozen=True, slots=True)
class Operation:
    """A route as the OpenAPI document has it."""

    method: str
    path: str
    takes_body: bool
    needs_key: bool

    @property
    def names(self) -> list[str]:
        """What its path asks for."""
        return re.findall(r"{(\w+)}", self.path)

    def __str__(self) -> str:
        """Return it as a table's key."""
        return f"{self.method} {self.path}"


def _operations() -> list[Operation]:
    paths: Mapping[str, Mapping[str, Mapping[str, Any]]] = DOCUMENT["paths"]
    return [
        Operation(method.upper(), path, "requestBody" in operation, bool(operation.get("security")))
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]


OPERATIONS: Final = _operations()
"""Every route of the API."""
OF_TENANTS: Final = [operation for operation in OPERATIONS if operation.needs_key]
"""Those that act for the tenant of a key."""


@dataclass(slots=True)
class World:
    """One tenant's things, made when they are first asked for."""

    client: AsyncClient
    """With a key of the tenant that may do everything."""
    database: Database
    tenant_id: UUID
    made: dict[str, str] = field(default_factory=dict[str, str])
    user_id: UUID | None = None
    token: str | None = None

    @classmethod
    @asynccontextmanager
    async def of_its_own(cls, app: FastAPI, database: Database) -> AsyncGenerator["World"]:
        """A new tenant's."""
        async with database.system() as session:
            tenant = (await tenants.create(session, f"world-{uuid4().hex}", "World")).id
        async with database.tenant(tenant) as session:
            secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
        async with serving(app, secret) as client:
            yield cls(client, database, tenant)

    async def everything(self) -> None:
        """Make one of each."""
        for name in MAKERS:
            await self.get(name)

    async def signed_in(self) -> str:
        """Return the token of a teammate's session."""
        if self.token is None:
            user = await add_user(self.database, self.tenant_id)
            self.user_id, self.token = user.id, await token_of(self.database, user)
        return self.token

    async def get(self, name: str) -> str:
        """Return what stands for this name in a path or a body."""
        if name not in self.made:
            maker = MAKERS.get(name) or STATES.get(name)
            if maker is None:
                raise KeyError(f"{name}: add a maker to tests/api/world.py")
            self.made[name] = await maker(self)
        return self.made[name]

    async def fill(self, template: str) -> str:
        """Return the text with each `{name}` replaced."""
        for name in re.findall(r"{(\w+)}", template):
            template = template.replace(f"{{{name}}}", await self.get(name))
        return template

    async def post(self, path: str, body: Any) -> Any:  # noqa: ANN401 - JSON
        """Make something by the API."""
        answer = await self.client.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    async def named(self, operation: Operation) -> list[str]:
        """Return what a route's path names, of this world."""
        instead = INSTEAD.get(str(operation), {})
        return [await self.get(instead.get(name, name)) for name in operation.names]

    async def path(self, operation: Operation) -> str:
        """Return the address of a route, of things in the state it needs."""
        path = operation.path
        for name, other in INSTEAD.get(str(operation), {}).items():
            path = path.replace(f"{{{name}}}", f"{{{other}}}")
        return await self.fill(path)

    async def call(self, operation: Operation, *, by: "World | None" = None) -> Response:
        """Call a route about this world's things: as its tenant, or as another's."""
        caller = by or self
        url = await self.path(operation)
        if query := QUERIES.get(str(operation)):
            url += f"?{await self.fill(query)}"
        content: Any = None
        headers: dict[str, str] = {}
        if str(operation) in BY_USERS:
            headers["Authorization"] = f"Bearer {await caller.signed_in()}"
        if operation.takes_body:
            if str(operation) not in BODIES:
                raise KeyError(f"{operation}: add its body to tests/api/world.py")
            body = BODIES[str(operation)]
            content = body if isinstance(body, bytes) else await self.filled(body)
            headers["Content-Type"] = CONTENT_TYPES.get(str(operation), "application/json")
        return await caller.client.request(operation.method, url, content=content, headers=headers)

    async def filled(self, body: object) -> str:
        """Return a body as JSON, with each `{name}` replaced."""
        text = json.dumps(body)
        for name in re.findall(r"{(\w+)}", text):
            text = text.replace(f"{{{name}}}", await self.get(name))
        return text


async def _person(world: World) -> str:
    body = {"email": "ann@shop.example", "last_name": MARK, "external_id": "ann"}
    return (await world.post("/v1/people", body))["id"]


async def _template(world: World) -> str:
    body = {"key": "hello", "channel": "email", "name": MARK, "subject": "Hello", "body": "Hello"}
    return (await world.post("/v1/templates", body | {"purpose": "transactional"}))["id"]


async def _partial(world: World) -> str:
    body = {"key": "footer", "channel": "email", "body": MARK}
    return (await world.post("/v1/template-partials", body))["id"]


async def _journey(world: World) -> str:
    made = await world.post("/v1/journeys", {"key": "nap", "name": MARK, "definition": JOURNEY})
    await world.post("/v1/journeys/nap/publish", {})
    return made["id"]


async def _simulation(world: World) -> str:
    path = f"/v1/journeys/{await world.get('journey')}/simulate"
    return (await world.post(path, {"person_ids": [await world.get("person_id")], "wait_seconds": 0}))["id"]


async def _paused_journey(world: World) -> str:
    journey = await world.get("journey")
    await world.post(f"/v1/journeys/{journey}/pause", {})
    return journey


async def _paced_journey(world: World) -> str:
    pace = {"type": "rate_limit", "per_minute": 10, "next": "done"}
    definition = {**JOURNEY, "start": "pace", "nodes": {"pace": pace, "done": EXIT}}
    made = await world.post("/v1/journeys", {"key": "paced", "name": MARK, "definition": definition})
    await world.post("/v1/journeys/paced/publish", {})
    return made["id"]


async def _hurried_journey(world: World) -> str:
    journey = await _paced_journey(world)
    answer = await world.client.put(f"/v1/journeys/{journey}/rate-limits/pace", json={"per_minute": 20})
    assert answer.status_code == 200, answer.text
    return journey


async def _limited_node(_world: World) -> str:
    return "pace"


async def _version(world: World) -> str:
    journey = (await world.client.get(f"/v1/journeys/{await world.get('journey')}")).json()
    return journey["active_version_id"]


async def _enrollment(world: World) -> str:
    path = f"/v1/journeys/{await world.get('journey')}/enrollments"
    return (await world.post(path, {"person_id": await world.get("person_id")}))["enrollment_ids"][0]


async def _paused_enrollment(world: World) -> str:
    enrollment = await world.get("enrollment_id")
    await world.post(f"/v1/enrollments/{enrollment}/pause", {})
    return enrollment


async def _parked_enrollment(world: World) -> str:
    enrollment = await world.get("enrollment_id")
    async with world.database.tenant(world.tenant_id) as session:
        parked = update(Enrollment).where(Enrollment.tenant_id == world.tenant_id, Enrollment.id == UUID(enrollment))
        await session.execute(parked.values(status="failed", problem={"error": MARK, "attempt": 1}))
    return enrollment


async def _stuck_journey(world: World) -> str:
    await world.get("enrollment_id")
    async with world.database.tenant(world.tenant_id) as session:
        stuck = update(Cohort).where(Cohort.tenant_id == world.tenant_id)
        await session.execute(stuck.values(started_at=func.now(), stuck="still", stuck_since=func.now()))
    return await world.get("journey")


async def _message(world: World) -> str:
    await world.get("template_id")
    message_id = new_id()
    async with world.database.tenant(world.tenant_id) as session:
        version = await session.scalar(select(TemplateVersion.id).where(TemplateVersion.tenant_id == world.tenant_id))
        values = {"tenant_id": world.tenant_id, "id": message_id, "person_id": UUID(await world.get("person_id"))}
        more = {"channel": "email", "address": "ann@shop.example", "template_version_id": version, "status": "sent"}
        await session.execute(insert(Message).values(values | more | {"dedupe_key": "campaign:1"}))
    return str(message_id)


async def _dead_event(world: World) -> str:
    await world.get("person_id")
    dead_id = new_id()
    async with world.database.tenant(world.tenant_id) as session:
        event = await session.scalar(select(Event.id).where(Event.tenant_id == world.tenant_id).limit(1))
        values = {"tenant_id": world.tenant_id, "id": dead_id, "consumer": "orders", "event_id": event, "error": MARK}
        await session.execute(insert(DeadEvent).values(values))
    return str(dead_id)


async def _key(world: World) -> str:
    return (await world.post("/v1/api-keys", {"name": MARK, "scopes": ["people:read"]}))["id"]


async def _erasure(world: World) -> str:
    person = await world.post("/v1/people", {"email": "gone@shop.example"})
    return (await world.client.delete(f"/v1/people/{person['id']}")).json()["id"]


async def _address(world: World) -> str:
    body = {"channel": await world.get("channel"), "address": "stop@shop.example", "reason": MARK}
    return (await world.post("/v1/suppressions", body))["address"]


async def _channel(_world: World) -> str:
    return "email"


async def _user(world: World) -> str:
    return str((await add_user(world.database, world.tenant_id)).id)


async def _invitation(world: World) -> str:
    return (await world.post("/v1/invitations", {"email": address(), "role": "sales", "name": MARK}))["id"]


async def _session(world: World) -> str:
    await world.signed_in()
    assert world.user_id is not None
    now = datetime.now(UTC)
    async with world.database.tenant(world.tenant_id) as session:
        started, _ = await sessions.start(session, world.user_id, Origin(MARK, None), by=CLI, now=now)
    return str(started.id)


async def _run(world: World) -> str:
    return (await world.post("/v1/people/duplicates/runs", None))["id"]


async def _duplicate(world: World) -> str:
    other = await world.post("/v1/people", {"email": "an@shop.example", "last_name": MARK})
    low, high = sorted((UUID(await world.get("person_id")), UUID(other["id"])))
    duplicate = new_id()
    async with world.database.tenant(world.tenant_id) as session:
        values = {"tenant_id": world.tenant_id, "id": duplicate, "person_a": low, "person_b": high}
        await session.execute(insert(DuplicateCandidate).values(values | {"score": 90, "reasons": []}))
    return str(duplicate)


async def _organization(world: World) -> str:
    return (await world.post("/v1/organizations", {"name": MARK, "domain": "shop.example"}))["id"]


async def _link(world: World) -> str:
    path = f"/v1/organizations/{await world.get('organization_id')}/people"
    return (await world.post(path, {"person_id": await world.get("person_id"), "kind": "contact"}))["id"]


async def _postal_address(world: World) -> str:
    body = {"subject_type": "person", "subject_id": await world.get("person_id"), "purposes": ["home"], "name": MARK}
    return (await world.post("/v1/addresses", body | PLACE))["id"]


async def _write_key(world: World) -> str:
    return (await world.post("/v1/write-keys", {"name": MARK}))["id"]


async def _form(world: World) -> str:
    return (await world.post("/v1/forms", FORM | {"key": "contact", "name": MARK}))["id"]


async def _import(world: World) -> str:
    file = f"email,last name\nfrom-file@shop.example,{MARK}\n"
    answer = await world.client.post(
        "/v1/people/imports?start=false", content=file, headers={"Content-Type": "text/csv"}
    )
    assert answer.is_success, answer.text
    return answer.json()["id"]


async def _topic(world: World) -> str:
    return (await world.post("/v1/topics", {"key": "offers", "name": MARK}))["id"]


async def _loser(world: World) -> str:
    return (await world.post("/v1/people", {"email": "anna@shop.example", "last_name": MARK}))["id"]


async def _merge(world: World) -> str:
    loser = await world.post("/v1/people", {"email": "merged@shop.example", "last_name": MARK})
    body = {"winner_id": await world.get("person_id"), "loser_id": loser["id"]}
    return (await world.post("/v1/people/merge", body))["id"]


async def _kind(_world: World) -> str:
    return "email"


async def _value(world: World) -> str:
    value = "ann@home.example"
    await world.post(f"/v1/people/{await world.get('person_id')}/identifiers", {"kind": "email", "value": value})
    return value


async def _definition(world: World) -> str:
    return (await world.post("/v1/attributes", {"key": "plan", "label": MARK, "type": "text"}))["id"]


async def _segment(world: World) -> str:
    body = {"key": "vip", "name": MARK, "kind": "static"}
    made = await world.post("/v1/segments", body)
    await world.post(f"/v1/segments/{made['id']}/members", {"person_ids": [await world.get("person_id")]})
    return made["id"]


async def _computed_segment(world: World) -> str:
    body = {"key": "readers", "name": MARK, "kind": "dynamic", "rules": {"event": "page.viewed"}}
    made = await world.post("/v1/segments", body)
    async with world.database.tenant(world.tenant_id) as session:
        over = update(SegmentRefresh).where(SegmentRefresh.tenant_id == world.tenant_id)
        await session.execute(over.values(status="finished"))
    return made["id"]


CAMPAIGN: Final[dict[str, Any]] = {
    "name": MARK,
    "channel": "email",
    "audience": {"include": ["{segment}"]},
    "template_id": "{template_id}",
}


async def _campaign(world: World) -> str:
    body = json.loads(await world.filled(CAMPAIGN))
    return (await world.post("/v1/campaigns", body))["id"]


async def _testing_campaign(world: World) -> str:
    body = json.loads(await world.filled(CAMPAIGN))
    template = body.pop("template_id")
    ab = {"share": 0.5, "metric": "clicks", "wait_hours": 4}
    made = await world.post("/v1/campaigns", body | {"variants": [{"template_id": template}] * 2, "ab": ab})
    async with world.database.tenant(world.tenant_id) as session:
        await control.send(session, UUID(made["id"]), by=CLI)
        begun = update(CampaignRun).where(
            CampaignRun.tenant_id == world.tenant_id, CampaignRun.campaign_id == UUID(made["id"])
        )
        await session.execute(begun.values(status="running", started_at=datetime.now(UTC)))
    return made["id"]


async def _running_campaign(world: World) -> str:
    campaign = await world.get("campaign_id")
    await world.post(f"/v1/campaigns/{campaign}/send", None)
    return campaign


async def _paused_campaign(world: World) -> str:
    campaign = await _running_campaign(world)
    await world.post(f"/v1/campaigns/{campaign}/pause", None)
    return campaign


async def _rule(world: World) -> str:
    body = {"key": "reader", "name": MARK, "condition": {"event": "page.viewed", "within": "P7D"}, "points": 5}
    return (await world.post("/v1/score-rules", body))["id"]


async def _association(world: World) -> str:
    ends = {side: {"type": kind, "id": await world.get(f"{kind}_id")} for side, kind in LINKED.items()}
    return (await world.post("/v1/associations", ends | {"label": "fan"}))["id"]


async def _association_definition(world: World) -> str:
    body = {"label": "buyer", "inverse_label": "buys-for", "description": MARK}
    ends = {"from_type": "person", "to_type": "organization"}
    return (await world.post("/v1/association-definitions", body | ends))["id"]


async def _object(world: World) -> str:
    await world.post("/v1/objects", PRODUCT_REQUEST | {"key": "product_request", "name": MARK})
    return "product_request"


async def _empty_object(world: World) -> str:
    await world.post("/v1/objects", PRODUCT_REQUEST | {"key": "empty", "name": MARK})
    return "empty"


async def _record(world: World) -> str:
    path = f"/v1/objects/{await world.get('object_key')}/records"
    return (await world.post(path, {"properties": {"productName": MARK, "quantity": 5}}))["id"]


async def _record_import(world: World) -> str:
    file = f"productName,quantity\nNew {MARK},3\n"
    path = f"/v1/objects/{await world.get('object_key')}/imports?start=false"
    answer = await world.client.post(path, content=file, headers={"Content-Type": "text/csv"})
    assert answer.is_success, answer.text
    return answer.json()["id"]


async def _account(world: World) -> str:
    body = {"key": "own", "provider": "mastodon", "name": MARK, "config": {"base_url": "http://127.0.0.1:9"}}
    return (await world.post("/v1/channel-accounts", body | {"secret": {"access_token": "token"}}))["id"]


async def _device(world: World) -> str:
    path = f"/v1/people/{await world.get('person_id')}/devices"
    return (await world.post(path, {"token": MARK, "platform": "ios"}))["id"]


async def _communication(world: World) -> str:
    body = {"channel": "note", "person_id": await world.get("person_id"), "body": MARK}
    return (await world.post("/v1/communications", body))["id"]


async def _sender_domain(world: World) -> str:
    return (await world.post("/v1/sender-domains", {"domain": f"{MARK}.example"}))["id"]


async def _pipeline(world: World) -> str:
    stages = [{"name": name, "kind": kind} for name, kind in (("New", "open"), ("Offer", "open"), ("Won", "won"))]
    return (await world.post("/v1/pipelines", {"key": "sales", "name": MARK, "stages": stages}))["id"]


async def _empty_pipeline(world: World) -> str:
    body = {"key": "empty", "name": MARK, "stages": [{"name": "New"}]}
    return (await world.post("/v1/pipelines", body))["id"]


async def _stage(world: World) -> str:
    pipeline = (await world.client.get(f"/v1/pipelines/{await world.get('pipeline_id')}")).json()
    return pipeline["stages"][1]["id"]


async def _deal_import(world: World) -> str:
    await world.get("pipeline_id")
    answer = await world.client.post(
        "/v1/deals/imports?start=false", content=f"title\n{MARK}\n".encode(), headers={"Content-Type": "text/csv"}
    )
    return answer.json()["id"]


async def _deal(world: World) -> str:
    people = {
        "primary_person_id": await world.get("person_id"),
        "contacts": [{"person_id": await world.get("champion")}],
    }
    body = {"title": MARK, "pipeline_id": await world.get("pipeline_id"), **people}
    return (await world.post("/v1/deals", body))["id"]


async def _champion(world: World) -> str:
    return (await world.post("/v1/people", {"email": "champion@shop.example", "last_name": MARK}))["id"]


async def _contact(world: World) -> str:
    await world.get("deal_id")
    return await world.get("champion")


async def _rate(world: World) -> str:
    body = {"rates": [{"currency": await world.get("currency"), "valid_from": "2026-01-01", "rate": "0.9"}]}
    answer = await world.client.put("/v1/exchange-rates", json=body)
    assert answer.is_success, answer.text
    return "2026-01-01"


async def _currency(_world: World) -> str:
    return "USD"


async def _product(world: World) -> str:
    variants = [
        {"sku": "cup", "name": MARK, "prices": [{"amount": "5.00", "currency": "USD"}]},
        {"sku": "cup-large"},
    ]
    made = await world.post("/v1/products", {"key": "cup", "name": MARK, "variants": variants})
    return made["id"]


async def _variant(world: World) -> str:
    product = (await world.client.get(f"/v1/products/{await world.get('product_id')}")).json()
    return product["variants"][0]["id"]


async def _product_import(world: World) -> str:
    answer = await world.client.post(
        "/v1/products/imports?start=false",
        content=f"name,sku\n{MARK},from-file\n".encode(),
        headers={"Content-Type": "text/csv"},
    )
    return answer.json()["id"]


async def _category(world: World) -> str:
    return (await world.post("/v1/categories", {"key": "cups", "name": MARK}))["id"]


async def _watch_kind(world: World) -> str:
    path = f"/v1/variants/{await world.get('variant_id')}/watches"
    return (await world.post(path, {"person_id": await world.get("person_id"), "kind": "stock"}))["kind"]


async def _location(world: World) -> str:
    return (await world.post("/v1/stock-locations", {"key": "shop", "name": MARK}))["id"]


async def _number(world: World) -> str:
    await world.get("template_id")
    return "1"


async def _call(world: World) -> str:
    call_id = new_id()
    async with world.database.tenant(world.tenant_id) as session:
        values = {"tenant_id": world.tenant_id, "id": call_id, "url": "https://shop.example", "body": {"mark": MARK}}
        await session.execute(insert(OutgoingCall).values(values | {"source_key": "journey:1", "status": "failed"}))
    return str(call_id)


async def _task(world: World) -> str:
    return (await world.post("/v1/tasks", {"title": MARK}))["id"]


async def _order(world: World) -> str:
    shop = Ordering(world.database, world.tenant_id)
    person = UUID(await world.get("person_id"))
    return str(await shop.order({await shop.variant(): 2}, person_id=person, note=MARK))


async def _cart(world: World) -> str:
    if "good" not in world.made:
        async with world.database.tenant(world.tenant_id) as session:
            world.made["good"] = str(await goods(session, "GOOD", name=MARK, pieces=5))
    body = {"person_id": await world.get("person_id"), "attributes": {"mark": MARK}, "lines": [{"sku": "GOOD"}]}
    return (await world.post("/v1/carts", body))["id"]


async def _ordered_cart(world: World) -> str:
    order = UUID(await world.get("order_id"))
    async with world.database.tenant(world.tenant_id) as session:
        return str(
            await session.scalar(select(Order.cart_id).where(Order.tenant_id == world.tenant_id, Order.id == order))
        )


async def _line(world: World) -> str:
    cart = await world.client.get(f"/v1/carts/{await world.get('cart_id')}")
    return cart.json()["lines"][0]["id"]


async def _fulfilment(world: World) -> str:
    return (await world.post(f"/v1/orders/{await world.get('order_id')}/fulfilments", {"carrier": MARK}))["id"]


async def _discount(world: World) -> str:
    return (await world.post("/v1/discounts", {"code": f"{MARK}-10", "kind": "percent", "percent": "10"}))["id"]


async def _tax_rate(world: World) -> str:
    return (await world.post("/v1/tax-rates", {"country": "DE", "rate": "19", "name": MARK}))["id"]


async def _shipping_method(world: World) -> str:
    body = {"key": "parcel", "name": MARK, "amount": {"amount": "4.90", "currency": "EUR"}}
    return (await world.post("/v1/shipping-methods", body))["id"]


async def _payment(world: World) -> str:
    found = await world.client.get(f"/v1/payments?order_id={await world.get('order_id')}")
    return found.json()["items"][0]["id"]


async def _payment_account(world: World) -> str:
    body = {"gateway": "local", "secret": {"webhook_secret": "a secret of 16 letters"}, "active": False}
    return (await world.post("/v1/payment-accounts", body))["id"]


async def _event_type(world: World) -> str:
    body = {"schema": {"type": "object"}, "description": MARK}
    made = await world.client.put("/v1/event-types/quiz.taken", json=body)
    assert made.is_success, made.text
    return made.json()["type"]


async def _webhook(world: World) -> str:
    return (await world.post("/v1/webhooks", {"url": f"https://shop.example/{MARK}", "event_types": ["*"]}))["id"]


async def _paused_webhook(world: World) -> str:
    webhook_id = await _webhook(world)
    await world.post(f"/v1/webhooks/{webhook_id}/pause", None)
    return webhook_id


async def _delivery(world: World) -> str:
    return (await world.post(f"/v1/webhooks/{await world.get('webhook_id')}/test", None))["id"]


MAKERS: Final[dict[str, Callable[[World], Awaitable[str]]]] = {
    "person_id": _person,
    "template_id": _template,
    "partial_id": _partial,
    "number": _number,
    "journey": _journey,
    "simulation_id": _simulation,
    "node": _limited_node,
    "version_id": _version,
    "enrollment_id": _enrollment,
    "message_id": _message,
    "dead_event_id": _dead_event,
    "key_id": _key,
    "erasure_id": _erasure,
    "channel": _channel,
    "address": _address,
    "user_id": _user,
    "invitation_id": _invitation,
    "session_id": _session,
    "run_id": _run,
    "duplicate_id": _duplicate,
    "organization_id": _organization,
    "link_id": _link,
    "address_id": _postal_address,
    "write_key_id": _write_key,
    "form_id": _form,
    "loser_id": _loser,
    "merge_id": _merge,
    "kind": _kind,
    "value": _value,
    "definition_id": _definition,
    "rule_id": _rule,
    "segment": _segment,
    "campaign_id": _campaign,
    "import_id": _import,
    "topic_id": _topic,
    "association_id": _association,
    "association_definition_id": _association_definition,
    "object_key": _object,
    "record_id": _record,
    "record_import_id": _record_import,
    "deal_import_id": _deal_import,
    "communication_id": _communication,
    "pipeline_id": _pipeline,
    "stage_id": _stage,
    "champion": _champion,
    "deal_id": _deal,
    "currency": _currency,
    "valid_from": _rate,
    "domain_id": _sender_domain,
    "thread_id": _communication,
    "account_id": _account,
    "device_id": _device,
    "task_id": _task,
    "product_id": _product,
    "variant_id": _variant,
    "location_id": _location,
    "category_id": _category,
    "product_import_id": _product_import,
    "watch_kind": _watch_kind,
    "call_id": _call,
    "order_id": _order,
    "payment_id": _payment,
    "payment_account_id": _payment_account,
    "event_type": _event_type,
    "webhook_id": _webhook,
    "delivery_id": _delivery,
    "cart_id": _cart,
    "line_id": _line,
    "discount_id": _discount,
    "tax_rate_id": _tax_rate,
    "method_id": _shipping_method,
    "other_cart": _cart,
    "fulfilment_id": _fulfilment,
}
"""How each thing is made that a path or a body names."""
STATES: Final[dict[str, Callable[[World], Awaitable[str]]]] = {
    "ordered_cart": _ordered_cart,
    "computed_segment": _computed_segment,
    "paused_journey": _paused_journey,
    "paced_journey": _paced_journey,
    "hurried_journey": _hurried_journey,
    "stuck_journey": _stuck_journey,
    "paused_enrollment": _paused_enrollment,
    "parked_enrollment": _parked_enrollment,
    "empty_object": _empty_object,
    "empty_pipeline": _empty_pipeline,
    "contact_id": _contact,
    "testing_campaign": _testing_campaign,
    "running_campaign": _running_campaign,
    "paused_campaign": _paused_campaign,
    "paused_webhook": _paused_webhook,
}
"""How some of them are brought into a state that a route needs; made for that route alone: others could
not be called any more."""

BODIES: Final[dict[str, Any]] = {
    "PUT /v1/event-types/{event_type}": {"schema": {"type": "object"}, "on_mismatch": "flag"},
    "POST /v1/webhooks": {"url": "https://shop.example/hook", "event_types": ["order.*"]},
    "PATCH /v1/webhooks/{webhook_id}": {"batch_size": 10},
    "POST /v1/webhooks/{webhook_id}/resume": {"missed": True},
    "POST /v1/webhooks/{webhook_id}/rotate-secret": {"keep_old_hours": 1},
    "POST /v1/webhooks/{webhook_id}/replay": {"since": "2026-01-01T00:00:00Z"},
    "POST /v1/payment-accounts": {"gateway": "local"},
    "PATCH /v1/payment-accounts/{payment_account_id}": {"active": True},
    "POST /v1/orders/{order_id}/refunds": {"amount": {"amount": "1.00", "currency": "EUR"}, "reason": MARK},
    "PATCH /v1/tenant": {"time_zone": "Europe/Berlin"},
    "POST /v1/api-keys": {"name": "new", "scopes": ["people:read"]},
    "POST /v1/people": {"email": "new@shop.example"},
    "PATCH /v1/people/{person_id}": {"first_name": "Ann"},
    "POST /v1/events": {"type": "shop.seen", "person": {"id": "{person_id}"}},
    "POST /v1/events/batch": {"events": [{"type": "shop.seen", "person": {"id": "{person_id}"}}]},
    "POST /v1/templates": {
        "key": "new",
        "channel": "email",
        "subject": "Hello",
        "body": "Hello",
        "purpose": "transactional",
    },
    "PUT /v1/templates/{template_id}": {"subject": "Hello", "body": "Hello again", "purpose": "transactional"},
    "POST /v1/templates/{template_id}/preview": {"person_id": "{person_id}"},
    "POST /v1/templates/preview": {
        "person_id": "{person_id}",
        "channel": "sms",
        "template": {"body": "Hello"},
    },
    "POST /v1/templates/{template_id}/test": {"to": ["tester@shop.example"]},
    "POST /v1/templates/lint": {"channel": "sms", "template": {"body": "Hello"}},
    "POST /v1/template-partials": {"key": "new", "channel": "email", "body": "Hello"},
    "PUT /v1/template-partials/{partial_id}": {"body": "Hello again"},
    "POST /v1/journeys": {"key": "new", "name": "New", "definition": JOURNEY},
    "POST /v1/journeys/check": {"definition": JOURNEY},
    "POST /v1/journeys/{journey}/publish": {},
    "PUT /v1/journeys/{journey}/rate-limits/{node}": {"count": 5, "per": "PT1H"},
    "POST /v1/journeys/{journey}/publish/preview": {"in_flight": "move"},
    "POST /v1/journeys/{journey}/rollback": {"version_id": "{version_id}"},
    "POST /v1/journeys/{journey}/rollback/preview": {"version_id": "{version_id}", "in_flight": "move"},
    "PUT /v1/journeys/{journey}/draft": {"definition": JOURNEY, "name": "New name"},
    "POST /v1/journeys/{journey}/simulate": {"person_ids": ["{person_id}"], "wait_seconds": 0},
    "POST /v1/journeys/{journey}/enrollments": {"person_ids": ["{person_id}"]},
    "POST /v1/enrollments/{enrollment_id}/exit": {"reason": "asked"},
    "POST /v1/journeys/{journey}/pause": {"what": "sends"},
    "POST /v1/journeys/{journey}/resume": {"overdue": "skip"},
    "POST /v1/journeys/{journey}/eject": {"reason": "asked", "node": "nap"},
    "POST /v1/journeys/{journey}/parked/retry": {"node": "nap"},
    "POST /v1/journeys/{journey}/parked/skip": {"error": "broken"},
    "POST /v1/journeys/{journey}/stuck/mend": {},
    "POST /v1/people/merge": {"winner_id": "{person_id}", "loser_id": "{loser_id}"},
    "POST /v1/people/{person_id}/identifiers": {"kind": "phone", "value": "+49 30 1234567"},
    "POST /v1/people/{person_id}/devices": {"token": "new", "platform": "web"},
    "POST /v1/attributes": {"key": "size", "label": "Size", "type": "number"},
    "PATCH /v1/attributes/{definition_id}": {"label": "The plan"},
    "POST /v1/people/duplicates/{duplicate_id}/merge": {},
    "POST /v1/score-rules": {
        "key": "buyer",
        "name": "Buyer",
        "condition": {"event": "order.placed", "within": "P30D"},
        "points": 10,
    },
    "PATCH /v1/score-rules/{rule_id}": {"points": 7},
    "POST /v1/segments": {"key": "new", "name": "New", "kind": "dynamic", "rules": {"event": "order.placed"}},
    "POST /v1/segments/preview": {"rules": {"event": "order.placed"}},
    "PATCH /v1/segments/{segment}": {"description": "Ours"},
    "POST /v1/segments/{segment}/members": {"person_ids": ["{loser_id}"]},
    "POST /v1/segments/{segment}/members/remove": {"person_ids": ["{person_id}"]},
    "POST /v1/segments/{segment}/snapshot": {"key": "copy", "name": "Copy"},
    "POST /v1/people/imports": b"email\nnew@shop.example\n",
    "POST /v1/people/imports/{import_id}/check": {},
    "POST /v1/people/imports/{import_id}/start": {},
    "POST /v1/topics": {"key": "new", "name": "New"},
    "PATCH /v1/topics/{topic_id}": {"description": "What is new"},
    "PATCH /v1/users/{user_id}": {"name": "Eve"},
    "POST /v1/invitations": {"email": "colleague@shop.example", "role": "sales"},
    "POST /v1/tasks": {"title": "Call", "person_id": "{person_id}"},
    "PATCH /v1/tasks/{task_id}": {"status": "done"},
    "POST /v1/me/notifications/read": {"all": True},
    "POST /v1/me/password": {"current": PASSWORD, "new": "another sentence of mine"},
    "POST /v1/organizations": {"name": "New"},
    "PATCH /v1/organizations/{organization_id}": {"industry": "retail"},
    "POST /v1/organizations/{organization_id}/people": {"person_id": "{person_id}", "kind": "employee"},
    "PATCH /v1/organizations/{organization_id}/people/{link_id}": {"title": "Buyer"},
    "POST /v1/organizations/{organization_id}/entries": {
        "kind": "charge",
        "amount": {"amount": "10.00", "currency": "EUR"},
    },
    "POST /v1/addresses": {
        "subject_type": "person",
        "subject_id": "{person_id}",
        "purposes": ["work"],
    }
    | PLACE,
    "POST /v1/addresses/validate": PLACE,
    "PATCH /v1/addresses/{address_id}": {"company": "Shop"},
    "POST /v1/write-keys": {"name": "new"},
    "POST /v1/forms": FORM | {"key": "new", "name": "New"},
    "PATCH /v1/forms/{form_id}": {"success_message": "Thanks"},
    "POST /v1/objects/{object_key}/imports": b"productName,quantity\nFrom file,3\n",
    "POST /v1/objects/{object_key}/imports/{record_import_id}/check": {},
    "POST /v1/objects/{object_key}/imports/{record_import_id}/start": {},
    "POST /v1/associations": NEW_LINK,
    "POST /v1/associations/batch": {"associations": [NEW_LINK]},
    "POST /v1/association-definitions": {"label": "owner", "from_type": "person", "to_type": "order"},
    "PATCH /v1/association-definitions/{association_definition_id}": {"cardinality": "one_to_many"},
    "POST /v1/objects": PRODUCT_REQUEST | {"key": "new"},
    "PUT /v1/objects/{object_key}": PRODUCT_REQUEST | {"name": "Request"},
    "POST /v1/objects/{object_key}/check": PRODUCT_REQUEST,
    "POST /v1/objects/{object_key}/records": {"properties": {"productName": "New", "quantity": 1}},
    "POST /v1/objects/{object_key}/records/batch": {"records": [{"properties": {"productName": "New", "quantity": 2}}]},
    "PATCH /v1/objects/{object_key}/records/{record_id}": {"properties": {"quantity": 3}},
    "PUT /v1/objects/{object_key}/records/{record_id}": {"properties": {"productName": "X", "quantity": 4}},
    "POST /v1/attribution/recompute": {"from": "2026-01-01T00:00:00Z"},
    "POST /v1/campaigns": CAMPAIGN | {"name": "New"},
    "POST /v1/campaigns/{campaign_id}/schedule": {"schedule": {"at": "2090-05-01T09:00:00Z"}},
    "POST /v1/campaigns/{campaign_id}/winner": {"variant": 1},
    "POST /v1/campaigns/{campaign_id}/test": {"to": ["tester@shop.example"]},
    "PATCH /v1/campaigns/{campaign_id}": {"rate_per_minute": 600},
    "POST /v1/channel-accounts": {
        "key": "texts",
        "provider": "twilio",
        "config": {"account_sid": f"AC{'0' * 32}", "from_number": "+15005550006"},
        "secret": {"auth_token": "token"},
    },
    "PATCH /v1/channel-accounts/{account_id}": {"rate_per_minute": 60},
    "POST /v1/sender-domains": {"domain": "new.example"},
    "POST /v1/communications": {"channel": "call", "direction": "out", "person_id": "{person_id}"},
    "PATCH /v1/communications/{communication_id}": {"body": "Changed"},
    "POST /v1/inbound/mail": b"From: new@shop.example\r\nMessage-ID: <1@shop.example>\r\n\r\nHello\r\n",
    "POST /v1/pipelines": {"name": "New", "stages": [{"name": "First"}]},
    "PATCH /v1/pipelines/{pipeline_id}": {"name": "Sales"},
    "PUT /v1/pipelines/{pipeline_id}": {
        "name": "Sales",
        "stages": [{"name": "New"}, {"id": "{stage_id}", "name": "Offer sent"}, {"name": "Won", "kind": "won"}],
    },
    "PUT /v1/exchange-rates": {"rates": [{"currency": "CHF", "valid_from": "2026-01-01", "rate": "1.05"}]},
    "POST /v1/deals": {"title": "New", "pipeline_id": "{pipeline_id}", "primary_person_id": "{person_id}"},
    "PATCH /v1/deals/{deal_id}": {"title": "Shelves"},
    "POST /v1/deals/imports": b"title,pipeline\nFrom file,sales\n",
    "POST /v1/deals/imports/{deal_import_id}/check": {},
    "POST /v1/deals/imports/{deal_import_id}/start": {},
    "POST /v1/deals/move": {"deal_ids": ["{deal_id}"], "stage_id": "{stage_id}"},
    "POST /v1/deals/{deal_id}/move": {"stage_id": "{stage_id}"},
    "POST /v1/deals/{deal_id}/contacts": {"person_id": "{loser_id}", "role": "buyer"},
    "POST /v1/discounts": {"code": "new", "kind": "shipping"},
    "PATCH /v1/discounts/{discount_id}": {"percent": "20"},
    "POST /v1/tax-rates": {"country": "AT", "rate": "20", "name": "USt"},
    "PATCH /v1/tax-rates/{tax_rate_id}": {"rate": "19.5"},
    "POST /v1/shipping-methods": {"key": "new", "name": "New", "amount": {"amount": "1.00", "currency": "EUR"}},
    "PATCH /v1/shipping-methods/{method_id}": {"name": "By post"},
    "POST /v1/carts": {"email": "new@shop.example"},
    "PATCH /v1/carts/{cart_id}": {"attributes": {"gift": True}},
    "POST /v1/carts/{cart_id}/lines": {"sku": "GOOD"},
    "PATCH /v1/carts/{cart_id}/lines/{line_id}": {"quantity": 2},
    "POST /v1/carts/{cart_id}/join": {"cart_id": "{other_cart}"},
    "PATCH /v1/orders/{order_id}": {"note": "Ring twice"},
    "POST /v1/orders/{order_id}/cancel": {"reason": "Changed their mind"},
    "POST /v1/orders/{order_id}/fulfilments": {"carrier": "DHL"},
    "POST /v1/products/imports": b"name,sku\nFrom file,new-from-file\n",
    "POST /v1/products/imports/{product_import_id}/check": {},
    "POST /v1/products/imports/{product_import_id}/start": {},
    "POST /v1/products": {"name": "New", "variants": [{"sku": "new"}]},
    "PUT /v1/products/{product_id}": {"name": "Cup", "variants": [{"sku": "cup"}, {"sku": "cup-small"}]},
    "PATCH /v1/products/{product_id}": {"description": "Holds tea"},
    "POST /v1/products/{product_id}/variants": {"sku": "cup-blue"},
    "PATCH /v1/variants/{variant_id}": {"backorder": True},
    "PUT /v1/variants/{variant_id}/prices": {"prices": [{"amount": "4.00", "currency": "USD"}]},
    "PUT /v1/variants/{variant_id}/prices/{currency}": {"amount": "4.50"},
    "PUT /v1/prices": {"prices": [{"variant_id": "{variant_id}", "amount": "3.00", "currency": "EUR"}]},
    "POST /v1/categories": {"key": "new", "name": "New"},
    "PATCH /v1/categories/{category_id}": {"position": 2},
    "POST /v1/variants/{variant_id}/watches": {"person_id": "{person_id}", "kind": "price"},
    "POST /v1/stock-locations": {"key": "new", "name": "New"},
    "PATCH /v1/stock-locations/{location_id}": {"position": 2},
    "POST /v1/inventory/adjustments": {"adjustments": [{"variant_id": "{variant_id}", "delta": 5}]},
    "POST /v1/carts/{cart_id}/checkout": {"payment": {"method": "approve"}},
    "POST /v1/suppressions": {"channel": "email", "address": "new@shop.example"},
}
"""What a route that takes a body is sent."""
INSTEAD: Final[dict[str, dict[str, str]]] = {
    "POST /v1/carts/{cart_id}/checkout": {"cart_id": "ordered_cart"},
    "POST /v1/journeys/{journey}/resume": {"journey": "paused_journey"},
    "GET /v1/journeys/{journey}/stuck": {"journey": "stuck_journey"},
    "POST /v1/journeys/{journey}/stuck/mend": {"journey": "stuck_journey"},
    "POST /v1/webhooks/{webhook_id}/resume": {"webhook_id": "paused_webhook"},
    "PUT /v1/journeys/{journey}/rate-limits/{node}": {"journey": "paced_journey"},
    "DELETE /v1/journeys/{journey}/rate-limits/{node}": {"journey": "hurried_journey"},
    "POST /v1/enrollments/{enrollment_id}/resume": {"enrollment_id": "paused_enrollment"},
    "POST /v1/enrollments/{enrollment_id}/retry": {"enrollment_id": "parked_enrollment"},
    "POST /v1/enrollments/{enrollment_id}/skip": {"enrollment_id": "parked_enrollment"},
    "DELETE /v1/objects/{object_key}": {"object_key": "empty_object"},
    "DELETE /v1/pipelines/{pipeline_id}": {"pipeline_id": "empty_pipeline"},
    "DELETE /v1/deals/{deal_id}/contacts/{person_id}": {"person_id": "contact_id"},
    "DELETE /v1/write-keys/{key_id}": {"key_id": "write_key_id"},
    "POST /v1/segments/{segment}/refresh": {"segment": "computed_segment"},
    "POST /v1/campaigns/{campaign_id}/winner": {"campaign_id": "testing_campaign"},
    "POST /v1/campaigns/{campaign_id}/pause": {"campaign_id": "running_campaign"},
    "POST /v1/campaigns/{campaign_id}/resume": {"campaign_id": "paused_campaign"},
    "POST /v1/campaigns/{campaign_id}/cancel": {"campaign_id": "running_campaign"},
}
"""What stands for a name in a path where the route needs another thing of that name, or one in another state."""
BY_USERS: Final = frozenset(
    {
        "GET /v1/me",
        "POST /v1/me/password",
        "GET /v1/me/notifications",
        "POST /v1/me/notifications/read",
        "GET /v1/sessions",
        "DELETE /v1/sessions/current",
        "DELETE /v1/sessions/{session_id}",
    }
)
"""Routes that are called by somebody signed in; all others by a key."""
CONTENT_TYPES: Final[dict[str, str]] = {
    "POST /v1/people/imports": "text/csv",
    "POST /v1/objects/{object_key}/imports": "text/csv",
    "POST /v1/deals/imports": "text/csv",
    "POST /v1/products/imports": "text/csv",
    "POST /v1/inbound/mail": "message/rfc822",
}
"""Of bodies that are not JSON; such a body stands in `BODIES` as bytes."""
QUERIES: Final[dict[str, str]] = {
    "GET /v1/carts": "person_id={person_id}",
    "GET /v1/addresses": "subject_type=person&subject_id={person_id}",
    "GET /v1/activities": "subject_type=person&subject_id={person_id}",
    "GET /v1/messages": "person_id={person_id}&status=sent",
    "GET /v1/journeys/{journey}/why": "person_id={person_id}",
    "GET /v1/communications": "person_id={person_id}",
    "GET /v1/inventory": "variant_id={variant_id}",
    "GET /v1/inventory/movements": "variant_id={variant_id}",
    "GET /v1/products": "category_id={category_id}",
    "GET /v1/stream": "follow=false&subject=person:{person_id}",
    "GET /v1/associations": "type=person&id={person_id}",
}
"""Parameters that a route cannot do without, or by which it could be made to show another's."""
