"""A tenant's website for tests: its key, its form, and what its pages send."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from httpx import AsyncClient, Response

ORIGIN = "https://shop.example"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36"

LEAD: dict[str, Any] = {
    "key": "lead",
    "name": "Talk to us",
    "fields": [
        {"name": "email", "label": "Email", "type": "email", "required": True, "maps_to": "email"},
        {"name": "name", "label": "First name", "type": "text", "maps_to": "first_name"},
        {"name": "phone", "label": "Phone", "type": "phone", "maps_to": "phone"},
        {"name": "size", "label": "Seats", "type": "number", "maps_to": "attributes.seats"},
        {"name": "plan", "label": "Plan", "type": "select", "choices": ["Free", "Pro"], "maps_to": "attributes.plan"},
        {"name": "message", "label": "Message", "type": "textarea"},
        {"name": "news", "label": "News by mail", "type": "checkbox"},
        {"name": "utm_source", "label": "Source", "type": "hidden", "maps_to": "attributes.utm_source"},
    ],
    "consent": [{"channel": "email", "topic": "news", "field": "news", "wording": "Yes, send me news."}],
    "success_message": "We will write to you.",
}


@dataclass
class Website:
    """What stands in its pages, and a browser that visits them."""

    api: AsyncClient
    """With the tenant's API key."""
    public: AsyncClient
    """Without any."""
    key: str

    async def send(self, anonymous_id: str, *events: dict[str, Any], **more: Any) -> Response:  # noqa: ANN401 - members of the body, of any type
        """Post to `/t/e` as the script does."""
        headers = {"Origin": ORIGIN, "User-Agent": CHROME, **more.pop("headers", {})}
        body = {"key": self.key, "anonymous_id": anonymous_id, "events": list(events), **more}
        return await self.public.post("/t/e", json=body, headers=headers)

    async def identify(self, anonymous_id: str, **traits: str) -> str:
        """Say who the visitor is; the browser's id from then on."""
        answer = await self.send(anonymous_id, identify=traits)
        assert answer.status_code == 200, answer.text
        return answer.json()["anonymous_id"]

    async def people(self) -> list[dict[str, Any]]:
        """Everybody of the tenant."""
        return (await self.api.get("/v1/people")).json()["items"]

    async def timeline(self, person_id: str) -> list[dict[str, Any]]:
        """What a person did."""
        return (await self.api.get(f"/v1/people/{person_id}/timeline")).json()["items"]


def browser() -> str:
    """A new browser's id."""
    return str(uuid4())


def viewed(path: str = "/") -> dict[str, Any]:
    """A page view."""
    return {"type": "page.viewed", "properties": {"path": path}}


async def website(api: AsyncClient, public: AsyncClient) -> Website:
    """A website of the tenant, allowed and with a key."""
    changed = await api.patch("/v1/tenant", json={"allowed_origins": [ORIGIN]})
    assert changed.status_code == 200, changed.text
    made = await api.post("/v1/write-keys", json={"name": "Shop"})
    assert made.status_code == 201, made.text
    return Website(api, public, made.json()["key"])
