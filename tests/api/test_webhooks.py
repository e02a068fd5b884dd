"""Endpoints of webhooks over HTTP; what they are told is tested with the services."""

from uuid import UUID

from httpx import AsyncClient

from api.app import create_app
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from services.tenancy import api_keys
from tests.api.conftest import serving

URL = "https://shop.example/hook?source=throughline"


async def test_an_endpoint_is_made_changed_paused_resumed_and_deleted(client: AsyncClient) -> None:
    made = await client.post("/v1/webhooks", json={"url": URL, "event_types": ["order.*", "deal.won", "order.*"]})
    assert made.status_code == 201, made.text
    assert made.headers["Cache-Control"] == "no-store"
    endpoint = made.json()
    secret = endpoint.pop("secret")
    assert secret.startswith("whsec_")
    assert endpoint["event_types"] == ["deal.won", "order.*"]
    path = f"/v1/webhooks/{endpoint['id']}"
    assert (await client.get(path)).json() == endpoint
    changed = await client.patch(path, json={"batch_size": 50, "description": "the shop"})
    assert (changed.json()["batch_size"], changed.json()["description"]) == (50, "the shop")
    paused = await client.post(f"{path}/pause")
    assert (paused.json()["status"], paused.json()["paused_because"]) == ("paused", "manual")
    for verb in ("pause", "test"):
        assert (await client.post(f"{path}/{verb}")).status_code == 409
    resumed = await client.post(f"{path}/resume", json={"missed": False})
    assert (resumed.json()["status"], resumed.json()["missed"]) == ("active", 0)
    assert (await client.post(f"{path}/resume")).status_code == 409
    rotated = await client.post(f"{path}/rotate-secret")
    assert rotated.json()["secret"] != secret
    assert rotated.json()["old_secret_until"] is not None
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_what_is_wrong_is_named(client: AsyncClient) -> None:
    async def refused(**fields: object) -> str:
        answer = await client.post("/v1/webhooks", json={"url": URL, "event_types": ["*"], **fields})
        assert answer.status_code == 422, answer.text
        return answer.json()["errors"][0]["field"]

    for url in ("https://me:pass@shop.example", "https://shop.example/#top", "ftp://shop.example", "shop.example"):
        assert await refused(url=url) == "url"
    for types in (["Order.placed"], ["order"], ["*.placed"], ["order.placed.*.x"], ["order."]):
        assert await refused(event_types=types) == "event_types.0"
    assert await refused(event_types=[]) == "event_types"
    assert await refused(batch_size=101) == "batch_size"


async def test_hosts_of_our_own_network_are_refused(settings: Settings, database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
    app = create_app(settings.model_copy(update={"allow_private_hosts": False}))
    async with app.router.lifespan_context(app), serving(app, secret) as client:
        for host in (
            "127.0.0.1",
            "localhost",
            "10.0.0.1",
            "169.254.169.254",
            "[::1]",
            "[fd00::1]",
            "[::ffff:10.0.0.1]",
        ):
            answer = await client.post("/v1/webhooks", json={"url": f"https://{host}/hook", "event_types": ["*"]})
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "url"), host
        plain = await client.post("/v1/webhooks", json={"url": "http://shop.example", "event_types": ["*"]})
        assert plain.status_code == 422


async def test_a_try_is_listed_with_its_request(client: AsyncClient) -> None:
    endpoint = (await client.post("/v1/webhooks", json={"url": URL, "event_types": ["*"]})).json()
    path = f"/v1/webhooks/{endpoint['id']}"
    tries = [(await client.post(f"{path}/test")).json() for _ in range(3)]
    assert {each["status"] for each in tries} == {"pending"}
    page = (await client.get(f"{path}/deliveries?limit=2&status=pending&event_type=webhook.test")).json()
    rest = (await client.get(f"{path}/deliveries?limit=2&cursor={page['next_cursor']}")).json()
    assert [each["id"] for each in page["items"] + rest["items"]] == [each["id"] for each in reversed(tries)]
    assert rest["next_cursor"] is None
    shown = (await client.get(f"/v1/webhooks/deliveries/{tries[0]['id']}")).json()
    assert shown["url"] == URL
    assert shown["request"]["type"] == "webhook.test"
    assert (await client.post(f"/v1/webhooks/deliveries/{tries[0]['id']}/replay")).status_code == 202


async def test_a_range_must_be_one(client: AsyncClient) -> None:
    endpoint = (await client.post("/v1/webhooks", json={"url": URL, "event_types": ["*"]})).json()
    path = f"/v1/webhooks/{endpoint['id']}/replay"
    naive = await client.post(path, json={"since": "2026-01-01T00:00:00"})
    assert (naive.status_code, naive.json()["errors"][0]["field"]) == (422, "since")
    empty = await client.post(path, json={"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"})
    assert (empty.status_code, empty.json()["errors"][0]["field"]) == (422, "until")
    none = await client.post(path, json={"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"})
    assert none.json() == {"deliveries": 0}
