"""A campaign whose texts have errors is not sent: what is wrong is named, and what may be wrong is shown."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import update

from api.app import create_app
from core.actor import CLI
from core.database import Database
from core.sealing import Seal
from core.settings import Settings
from models import SenderDomain
from services.marketing import sender_domains
from services.tenancy import api_keys
from tests.api.conftest import serving

GOOD = '<p>Hi</p><a href="https://shop.example">Shop</a> <a href="{{ unsubscribe_url }}">no more</a>'
BAD = '<p>Hi</p>\n<a href="/sale">To the sale</a>'
MONDAYS = {"cron": "0 9 * * 1"}


async def template(client: AsyncClient, key: str = "hello", body: str = GOOD, **more: object) -> str:
    made = await client.post(
        "/v1/templates", json={"key": key, "channel": "email", "subject": "Sale", "body": body} | more
    )
    assert made.status_code == 201, made.text
    return made.json()["id"]


async def campaign(client: AsyncClient, *template_ids: str, **more: object) -> str:
    """Return the address of a draft."""
    segments = len((await client.get("/v1/segments")).json()["items"])
    segment = await client.post("/v1/segments", json={"key": f"s{segments}", "name": "S", "kind": "static"})
    body: dict[str, Any] = {"name": "Spring", "channel": "email", "audience": {"include": [segment.json()["id"]]}}
    if len(template_ids) == 1:
        body["template_id"] = template_ids[0]
    else:
        body["variants"] = [{"template_id": each} for each in template_ids]
        body["ab"] = {"share": 0.2, "metric": "clicks", "wait_hours": 1}
    made = await client.post("/v1/campaigns", json=body | more)
    assert made.status_code == 201, made.text
    return f"/v1/campaigns/{made.json()['id']}"


def _problems(answer: Response) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    return [(error["field"], error["reason"]) for error in answer.json()["errors"]]


async def with_address(client: AsyncClient) -> None:
    assert (await client.patch("/v1/tenant", json={"postal_address": "Weg 1, Bonn"})).status_code == 200


async def test_marketing_mail_without_a_postal_address_is_not_sent(client: AsyncClient) -> None:
    path = await campaign(client, await template(client))
    [(field, reason)] = _problems(await client.post(f"{path}/send"))
    assert (field, reason.startswith("body: marketing mail must name a postal address")) == ("template_id", True)
    checked = (await client.post(f"{path}/check")).json()
    assert checked["sendable"] is False
    assert [(each["level"], each["code"]) for each in checked["findings"]] == [("error", "postal_address")]
    assert (await client.get(path)).json()["status"] == "draft"
    await with_address(client)
    assert (await client.post(f"{path}/check")).json() == {"sendable": True, "findings": []}
    assert (await client.post(f"{path}/send")).status_code == 200


async def test_transactional_mail_owes_nothing(client: AsyncClient) -> None:
    path = await campaign(client, await template(client, purpose="transactional"))
    assert (await client.post(f"{path}/send")).status_code == 200


async def test_each_error_is_named_with_its_variant_and_line(client: AsyncClient) -> None:
    await with_address(client)
    path = await campaign(client, await template(client), await template(client, "other", BAD))
    expected = [
        (
            "variants.1.template_id",
            "body, line 2: /sale is relative: in a mail it leads nowhere (relative_link)",
        )
    ]
    assert _problems(await client.post(f"{path}/send")) == expected
    at = {"schedule": {"at": "2090-05-01T09:00:00Z"}}
    assert _problems(await client.post(f"{path}/schedule", json=at)) == expected
    assert _problems(await client.post(f"{path}/schedule", json={"schedule": MONDAYS})) == expected
    found = (await client.post(f"{path}/check")).json()["findings"]
    assert [(each["variant"], each["level"], each["code"], each["line"]) for each in found] == [
        (1, "error", "relative_link", 2),
        (1, "info", "unsubscribe_link", None),
    ]


async def test_what_is_scheduled_takes_no_text_with_errors(client: AsyncClient) -> None:
    await with_address(client)
    path = await campaign(client, await template(client), schedule={"at": "2090-05-01T09:00:00Z"})
    assert (await client.post(f"{path}/schedule", json={})).status_code == 200
    refused = await client.patch(path, json={"template_id": await template(client, "other", BAD)})
    assert [field for field, _ in _problems(refused)] == ["template_id"]


async def test_warnings_are_shown_and_keep_nothing_back(client: AsyncClient) -> None:
    await with_address(client)
    path = await campaign(client, await template(client, body=GOOD + '<img src="http://shop.example/a.png">'))
    checked = (await client.post(f"{path}/check")).json()
    assert checked["sendable"] is True
    assert {each["code"] for each in checked["findings"]} == {"no_alt", "http_image"}
    assert (await client.post(f"{path}/send")).status_code == 200


@pytest.fixture
async def strict(settings: Settings, database: Database, tenant_id: UUID) -> AsyncGenerator[AsyncClient]:
    """A deployment where mail comes from verified domains alone; the tenant has shop.example verified."""
    app = create_app(settings.model_copy(update={"require_verified_domain": True}))
    seal = Seal(settings.secret_key.get_secret_value())
    async with database.tenant(tenant_id) as session:
        secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
        for name in (f"{tenant_id.hex}.example", f"pending-{tenant_id.hex}.example"):
            await sender_domains.create(session, name, seal=seal, by=CLI)
        verified = update(SenderDomain).where(
            SenderDomain.tenant_id == tenant_id, SenderDomain.domain == f"{tenant_id.hex}.example"
        )
        await session.execute(verified.values(status="verified"))
    async with app.router.lifespan_context(app), serving(app, secret) as client:
        yield client


async def test_a_template_is_from_a_verified_domain(strict: AsyncClient, tenant_id: UUID) -> None:
    own = f"{tenant_id.hex}.example"
    text: dict[str, Any] = {"subject": "Sale", "body": GOOD}
    made = await template(strict, **{"from": f"Shop <hello@news.{own.upper()}>"})
    path = f"/v1/templates/{made}"
    for domain in ("other.example", f"pending-{own}", f"x{own}"):
        wrong = text | {"from": f"Shop <hello@{domain}>"}
        expected = [("from", f"{domain} is not a verified sender domain")]
        assert _problems(await strict.put(path, json=wrong)) == expected
        created = await strict.post("/v1/templates", json=wrong | {"key": "new", "channel": "email"})
        assert _problems(created) == expected
    assert (await strict.put(path, json=text)).status_code == 200
    assert (await strict.post(f"{path}/versions/1/restore")).status_code == 200


async def test_a_campaign_is_from_a_verified_domain(strict: AsyncClient, client: AsyncClient, tenant_id: UUID) -> None:
    """What was saved before the setting was, or is from the tenant's own address, is refused when it is sent."""
    await with_address(client)
    old = await campaign(client, await template(client, **{"from": "hello@other.example"}))
    reason = "from: other.example is not a verified sender domain (unverified_domain)"
    assert _problems(await strict.post(f"{old}/send")) == [("template_id", reason)]
    at = {"schedule": {"at": "2090-05-01T09:00:00Z"}}
    assert _problems(await strict.post(f"{old}/schedule", json=at)) == [("template_id", reason)]
    assert (await strict.post(f"{old}/check")).json()["findings"][0]["code"] == "unverified_domain"
    plain = await campaign(strict, await template(strict, "plain"))
    assert (await client.patch("/v1/tenant", json={"from_address": "hello@other.example"})).status_code == 200
    assert _problems(await strict.post(f"{plain}/send")) == [("template_id", reason)]
    await client.patch("/v1/tenant", json={"from_address": f"hello@{tenant_id.hex}.example"})
    assert (await strict.post(f"{plain}/send")).status_code == 200
    assert (await client.post(f"{old}/send")).status_code == 200, "nothing is asked without the setting"
