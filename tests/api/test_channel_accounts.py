"""Accounts with providers: kept with their secrets sealed, one of a channel active, tried with the provider."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from pydantic import SecretStr
from sqlalchemy import select

from api.app import create_app
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from models import Activity, ChannelAccount
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.providers import fcm, mastodon, twilio
from tests.sender.support import MailServer
from tests.sender.support import serving as serving_mail

TWILIO: dict[str, Any] = {
    "key": "texts",
    "provider": "twilio",
    "config": {"account_sid": twilio.SID, "from_number": "+15005550006"},
    "secret": {"auth_token": "a-secret-token"},
}


async def make(client: AsyncClient, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    made = await client.post("/v1/channel-accounts", json=TWILIO | more)
    assert made.status_code == 201, made.text
    return made.json()


async def test_an_account_is_kept_and_its_secret_never_shown(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    made = await make(client, name="Texts", rate_per_minute=60)
    path = f"/v1/channel-accounts/{made['id']}"
    assert (made["channel"], made["active"], made["rate_per_minute"]) == ("sms", True, 60)
    assert made["webhook_url"].startswith("http://127.0.0.1:8080/v1/hooks/twilio/")
    assert made["config"]["opt_out_text"] == "Reply STOP to opt out."
    changed = await client.patch(path, json={"secret": {"auth_token": "b-secret-token"}, "name": None})
    assert (changed.status_code, changed.json()["name"], changed.json()["rate_per_minute"]) == (200, None, 60)
    listed = await client.get("/v1/channel-accounts")
    shown = [made, changed.json(), listed.json(), (await client.get(path)).json()]
    assert "secret-token" not in str(shown)
    assert not any("secret" in each for each in (made, changed.json()))
    async with database.tenant(tenant_id) as session:
        account = await session.scalar(select(ChannelAccount).where(ChannelAccount.tenant_id == tenant_id))
        assert account is not None
        assert b"secret-token" not in account.secret
        logged = (
            await session.scalars(
                select(Activity)
                .where(Activity.tenant_id == tenant_id, Activity.subject_id == UUID(made["id"]))
                .order_by(Activity.id)
            )
        ).all()
    assert [entry.type for entry in logged] == ["channel_account.created", "channel_account.updated"]
    assert logged[1].changes == {"name": ["Texts", None], "secret": ["set", "set anew"]}
    assert "secret-token" not in str([entry.changes for entry in logged])
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_one_account_of_a_channel_is_active(client: AsyncClient) -> None:
    first = await make(client)
    second = await client.post("/v1/channel-accounts", json=TWILIO | {"key": "other"})
    assert (second.status_code, second.json()["errors"]) == (409, [{"field": "active", "reason": "texts is"}])
    again = await client.post("/v1/channel-accounts", json=TWILIO | {"active": False})
    assert (again.status_code, again.json()["errors"][0]["field"]) == (409, "key")
    other = await make(client, key="other", active=False)
    path = f"/v1/channel-accounts/{other['id']}"
    assert (await client.patch(path, json={"active": True})).status_code == 409
    assert (await client.patch(f"/v1/channel-accounts/{first['id']}", json={"active": False})).status_code == 200
    assert (await client.patch(path, json={"active": True})).json()["active"] is True


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"config": {"account_sid": "AC1", "from_number": "+15005550006"}}, "config.account_sid"),
        ({"config": {"account_sid": twilio.SID}}, "config"),
        ({"config": {"account_sid": twilio.SID, "from_number": "005"}}, "config.from_number"),
        ({"config": {"account_sid": twilio.SID, "from_number": "+1 (500) 555-0006"}}, "config.from_number"),
        ({"config": TWILIO["config"] | {"color": "red"}}, "config.color"),
        ({"secret": {}}, "secret"),
        ({"secret": {"auth_token": "two words"}}, "secret.auth_token"),
        ({"secret": {"api_key_sid": f"SK{'0' * 32}"}}, "secret"),
        ({"provider": "smtp", "config": {"url": "http://mail.shop.example"}, "secret": {}}, "config.url"),
        ({"provider": "smtp", "config": {"url": "smtp://a:b@mail.shop.example"}, "secret": {}}, "config.url"),
        (
            {"provider": "smtp", "config": {"url": "smtp://mail.shop.example", "username": "a"}, "secret": {}},
            "secret.password",
        ),
        (
            {"provider": "mastodon", "config": {"base_url": "ftp://a.example"}, "secret": {"access_token": "t"}},
            "config.base_url",
        ),
        (
            {
                "provider": "fcm",
                "config": {"project_id": "shop", "client_email": "a@b.example"},
                "secret": {"private_key": "no key"},
            },
            "secret.private_key",
        ),
        ({"provider": "sendgrid", "config": {}, "secret": {}}, "secret.api_key"),
        (
            {"provider": "sendgrid", "config": {"verification_key": "AAAA"}, "secret": {"api_key": "k"}},
            "config.verification_key",
        ),
        (
            {"provider": "mailgun", "config": {"username": "u", "region": "us2"}, "secret": {"password": "p"}},
            "config.region",
        ),
        (
            {"provider": "postmark", "config": {}, "secret": {"server_token": "t", "webhook_username": "u"}},
            "secret",
        ),
        (
            {"provider": "ses", "config": {"region": "evil.example/", "username": "u"}, "secret": {"password": "p"}},
            "config.region",
        ),
        (
            {
                "provider": "ses",
                "config": {"region": "eu-west-1", "username": "u", "topic_arn": "arn:aws:sqs:x"},
                "secret": {"password": "p"},
            },
            "config.topic_arn",
        ),
        (
            {"provider": "sendgrid", "config": {"url": "https://mail.example"}, "secret": {"api_key": "k"}},
            "config.url",
        ),
        ({"provider": "pigeon"}, "provider"),
        ({"rate_per_minute": 0}, "rate_per_minute"),
    ],
)
async def test_what_is_wrong_is_named(client: AsyncClient, body: dict[str, Any], field: str) -> None:
    refused = await client.post("/v1/channel-accounts", json=TWILIO | body)
    assert refused.status_code == 422, refused.text
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert "no key" not in refused.text


@pytest.mark.parametrize(
    ("provider", "config", "field"),
    [
        ("mastodon", {"base_url": "http://social.example"}, "config.base_url"),
        ("mastodon", {"base_url": "https://127.0.0.1"}, "config.base_url"),
        ("mastodon", {"base_url": "https://169.254.169.254"}, "config.base_url"),
        ("mastodon", {"base_url": "https://[::ffff:10.0.0.1]"}, "config.base_url"),
        ("mastodon", {"base_url": "https://localhost"}, "config.base_url"),
        ("smtp", {"url": "smtp://10.1.2.3"}, "config.url"),
        ("smtp", {"url": "smtp://mail.example:6379"}, "config.url"),
        ("sendgrid", {"url": "smtp://127.0.0.1:25"}, "config.url"),
        ("twilio", TWILIO["config"] | {"base_url": "https://elsewhere.example"}, "config.base_url"),
    ],
)
async def test_accounts_do_not_lead_into_the_deployments_own_network(
    settings: Settings, database: Database, tenant_id: UUID, provider: str, config: dict[str, Any], field: str
) -> None:
    """With the settings that a deployment has by default."""
    app = create_app(settings.model_copy(update={"allow_private_hosts": False}))
    secrets = {
        "mastodon": {"access_token": "t"},
        "smtp": {},
        "sendgrid": {"api_key": "k"},
        "twilio": {"auth_token": "t"},
    }
    async with database.tenant(tenant_id) as session:
        secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
    async with app.router.lifespan_context(app), serving(app, secret) as client:
        body = {"key": "own", "provider": provider, "config": config, "secret": secrets[provider]}
        refused = await client.post("/v1/channel-accounts", json=body)
    assert refused.status_code == 422, refused.text
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def checked(client: AsyncClient, **account: Any) -> tuple[bool, str]:  # noqa: ANN401 - JSON
    made = await make(client, active=False, **account)
    answer = await client.post(f"/v1/channel-accounts/{made['id']}/check")
    assert answer.status_code == 200, answer.text
    return answer.json()["ok"], answer.json()["detail"]


async def test_twilio_says_whether_it_takes_the_credentials(client: AsyncClient) -> None:
    async with twilio.twilio() as server:
        good, bad = {"auth_token": twilio.TOKEN}, {"auth_token": "wrong"}
        assert await checked(client, key="a", config=server.config(), secret=good) == (True, "The shop")
        assert await checked(client, key="b", config=server.config(), secret=bad) == (
            False,
            "refused: 401 20003 Authenticate",
        )
        server.logins[f"SK{'1' * 32}"] = "key-secret"
        by_key = {"api_key_sid": f"SK{'1' * 32}", "api_key_secret": "key-secret"}
        assert (await checked(client, key="c", config=server.config(), secret=by_key))[0]
    ok, said = await checked(client, key="d", config=server.config(), secret=good)
    assert not ok
    assert said.startswith("unreachable: ConnectError")


async def test_mastodon_says_whose_token_it_is(client: AsyncClient) -> None:
    async with mastodon.mastodon() as server:
        account = {"provider": "mastodon", "config": {"base_url": server.url}}
        assert await checked(client, key="a", **account, secret={"access_token": mastodon.TOKEN}) == (True, "shop")
        ok, said = await checked(client, key="b", **account, secret={"access_token": "wrong"})
    assert (ok, said) == (False, "refused: 401 The access token is invalid")


async def test_fcm_validates_a_message_that_goes_nowhere(client: AsyncClient) -> None:
    async with fcm.fcm() as server:
        account = {"provider": "fcm", "secret": {"private_key": fcm.pem()}}
        assert await checked(client, key="a", **account, config=server.config()) == (True, fcm.PROJECT)
        assert (len(server.validated), server.sent) == (1, [])
        stranger = server.config() | {"client_email": "eve@the-shop.example"}
        ok, said = await checked(client, key="b", **account, config=stranger)
        assert (ok, said) == (False, "refused: 400 invalid_grant")
        elsewhere = server.config() | {"project_id": "another"}
        assert not (await checked(client, key="c", **account, config=elsewhere))[0]


async def test_a_mail_server_is_logged_in_to(client: AsyncClient) -> None:
    async with serving_mail(MailServer()) as server:
        account = {"provider": "smtp", "config": {"url": server.url}, "secret": {}}
        assert await checked(client, key="a", **account) == (True, "127.0.0.1")
        login = {"config": {"url": server.url, "username": "shop"}, "secret": {"password": "secret"}}
        ok, _ = await checked(client, key="b", **(account | login))
        assert not ok, "it knows no AUTH"


async def test_a_secret_sealed_under_another_key_is_asked_for_again(
    client: AsyncClient, app: FastAPI, settings: Settings
) -> None:
    made = await make(client)
    other = settings.model_copy(update={"secret_key": SecretStr("another secret, of 32 letters or more")})
    before = app.state.resources
    app.state.resources = replace(before, settings=other)
    try:
        answer = await client.post(f"/v1/channel-accounts/{made['id']}/check")
        patched = await client.patch(f"/v1/channel-accounts/{made['id']}", json={"config": made["config"]})
    finally:
        app.state.resources = before
    assert (answer.status_code, patched.status_code) == (409, 409)
