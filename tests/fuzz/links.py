"""What stands in addresses that need no key: signed tokens, codes and public keys, of the tenant's things."""

from typing import Any, Final
from uuid import UUID, uuid4

from core.tokens import Click, ConsentRef, MessageRef, Tokens, short_code
from services.marketing import short_links
from services.marketing.short_links import NewLink
from tests.api.websites import ORIGIN, viewed
from tests.api.world import World
from tests.factories.teammates import PASSWORD, add_user
from tests.providers import twilio

TARGET: Final = "https://shop.example/sale"
_ACCOUNTS: Final[dict[str, dict[str, Any]]] = {
    "twilio": {
        "config": {"account_sid": twilio.SID, "from_number": "+15005550006"},
        "secret": {"auth_token": twilio.TOKEN},
    },
    "postmark": {
        "config": {},
        "secret": {"server_token": "t", "webhook_username": "hook", "webhook_password": "secret"},
    },
}


async def links_of(world: World, tokens: Tokens) -> dict[str, str]:
    """Return a true address for each path of the document that names one."""
    message = UUID(await world.get("message_id"))
    person = UUID(await world.get("person_id"))
    opened = MessageRef(world.tenant_id, message)
    reader = ConsentRef(world.tenant_id, person, message, "email", "general")
    code = short_code(tokens.short_key, message, TARGET)
    async with world.database.tenant(world.tenant_id) as session:
        await short_links.keep(session, [NewLink(code, message, person, TARGET)])
    hooks = {provider: await _hook(world, provider) for provider in _ACCOUNTS}
    form = (await world.client.get(f"/v1/forms/{await world.get('form_id')}")).json()
    gateway = (await world.client.get(f"/v1/payment-accounts/{await world.get('payment_account_id')}")).json()
    return {
        "/t/o/{token}": tokens.open(opened),
        "/t/c/{token}": tokens.click(Click(world.tenant_id, message, TARGET)),
        "/t/l/{code}": code,
        "/t/u/{token}": tokens.unsubscribe(reader),
        "/t/p/{token}": tokens.preferences(reader),
        "/forms/{public_key}": form["public_key"],
        "/v1/hooks/twilio/{token}": hooks["twilio"],
        "/v1/hooks/{provider}/{token}": hooks["postmark"],
        "/v1/payments/notices/{token}": gateway["webhook_url"].rpartition("/")[2],
    }


async def bodies_of(world: World) -> dict[str, dict[str, Any]]:
    """Return true bodies for operations that need no key."""
    allowed = await world.client.patch("/v1/tenant", json={"allowed_origins": [ORIGIN]})
    assert allowed.is_success, allowed.text
    key = (await world.post("/v1/write-keys", {"name": "Shop"}))["key"]
    user = await add_user(world.database, world.tenant_id)
    return {
        "POST /t/e": {"key": key, "anonymous_id": str(uuid4()), "events": [viewed()]},
        "POST /v1/sessions": {"email": user.email, "password": PASSWORD},
    }


async def _hook(world: World, provider: str) -> str:
    body = {"key": provider, "provider": provider, "active": False} | _ACCOUNTS[provider]
    return (await world.post("/v1/channel-accounts", body))["webhook_url"].rpartition("/")[2]
