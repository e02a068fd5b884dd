"""What mail providers post: verified as each documents, forward only, the same twice changes nothing."""

import json
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import select, update

from api.rest.mail_hooks import get_certificates
from core.database import Database
from integrations.email.reports import mailgun, postmark, sendgrid, ses
from integrations.email.reports.port import Told
from integrations.email.reports.sns import Certificates
from models import ConsentChange, Event, Message, Suppression
from tests.providers import mail
from tests.providers.mail import Amazon
from tests.sender.support import queue_for

ACCOUNTS: dict[str, dict[str, Any]] = {
    "sendgrid": {"config": {"verification_key": mail.public_key()}, "secret": {"api_key": "SG.key"}},
    "mailgun": {
        "config": {"username": "postmaster@mg.shop.example"},
        "secret": {"password": "p", "webhook_signing_key": mail.MAILGUN_KEY},
    },
    "postmark": {
        "config": {},
        "secret": {"server_token": "t", "webhook_username": "hook", "webhook_password": "secret"},
    },
    "ses": {
        "config": {"region": "eu-west-1", "username": "AKIA", "topic_arn": mail.TOPIC},
        "secret": {"password": "p"},
    },
}
BASIC = ("hook", "secret")


async def made(client: AsyncClient, provider: str, **more: dict[str, Any]) -> str:
    """Add an account; return the path that its provider posts to."""
    body = {"key": provider, "provider": provider, "active": False} | ACCOUNTS[provider] | more
    answer = await client.post("/v1/channel-accounts", json=body)
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["webhook_url"]
    assert url.startswith(f"http://127.0.0.1:8080/v1/hooks/{provider}/")
    return url.removeprefix("http://127.0.0.1:8080")


@pytest.fixture
async def message(database: Database, tenant_id: UUID) -> Message:
    (queued,) = (await queue_for(database, tenant_id, ["ann"])).messages
    async with database.tenant(tenant_id) as session:
        await session.execute(update(Message).where(Message.tenant_id == tenant_id).values(status="sent"))
        return await session.get_one(Message, {"tenant_id": tenant_id, "id": queued.message_id})


@pytest.fixture
async def amazon(app: FastAPI, tmp_path: Path) -> AsyncGenerator[Amazon]:
    async with mail.amazon(tmp_path) as server, server.client() as client:
        certificates = Certificates(client)
        app.dependency_overrides[get_certificates] = lambda: certificates
        yield server
        del app.dependency_overrides[get_certificates]


async def status(database: Database, tenant_id: UUID) -> tuple[str, str | None, str | None]:
    async with database.tenant(tenant_id) as session:
        row = (
            await session.execute(select(Message.status, Message.reason).where(Message.tenant_id == tenant_id))
        ).one()
        suppressed = await session.scalar(select(Suppression.reason).where(Suppression.tenant_id == tenant_id))
    return row.status, row.reason, suppressed


async def events(database: Database, tenant_id: UUID) -> list[str]:
    async with database.tenant(tenant_id) as session:
        found = await session.scalars(select(Event.type).where(Event.tenant_id == tenant_id))
        return sorted(kind for kind in found if kind.startswith(("email.", "person.unsub")))


def counts(answer: Response) -> tuple[int, int, int]:
    assert answer.status_code == 200, answer.text
    return tuple(answer.json()[name] for name in ("recorded", "ignored", "unknown"))


async def test_sendgrid_posts_batches(
    client: AsyncClient, anonymous: AsyncClient, database: Database, tenant_id: UUID, message: Message
) -> None:
    path = await made(client, "sendgrid")
    named = {"email": "ann@example.com", "throughline_message": str(message.id)}
    batch = [
        named | {"event": "processed"},
        {"event": "delivered", "email": "ann@example.com", "smtp-id": f"<{message.id}@shop.example>"},
        named | {"event": "open"},
        named | {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 no such user"},
        named | {"event": "unsubscribe"},
        named | {"event": "delivered", "throughline_message": str(uuid4())},
        {"event": "spamreport", "throughline_message": "nonsense"},
    ]
    for _ in range(2):
        assert counts(await anonymous.post(path, **mail.sendgrid(batch))) == (3, 2, 2)
    assert await status(database, tenant_id) == ("bounced", "hard: 5.1.1 550 no such user", "bounced")
    assert await events(database, tenant_id) == ["email.bounced", "email.unsubscribed", "person.unsubscribed"]
    async with database.tenant(tenant_id) as session:
        (entry,) = await session.scalars(select(ConsentChange).where(ConsentChange.tenant_id == tenant_id))
    assert (entry.status, entry.topic, entry.source) == ("opted_out", "general", "provider_unsubscribe")
    assert entry.evidence == {"provider": "sendgrid", "message_id": str(message.id)}
    assert counts(await anonymous.post(path, **mail.sendgrid([named | {"event": "delivered"}]))) == (1, 0, 0)
    assert (await status(database, tenant_id))[0] == "bounced"


async def test_what_sendgrid_did_not_sign_is_refused(
    client: AsyncClient, anonymous: AsyncClient, database: Database, tenant_id: UUID, message: Message
) -> None:
    path = await made(client, "sendgrid")
    batch = [{"event": "spamreport", "throughline_message": str(message.id)}]
    good = mail.sendgrid(batch)
    forged: list[dict[str, Any]] = [
        mail.sendgrid(batch, ec.generate_private_key(ec.SECP256R1())),
        good | {"content": good["content"] + b" "},
        good | {"headers": good["headers"] | {"X-Twilio-Email-Event-Webhook-Timestamp": "1"}},
        good | {"headers": {}},
        good | {"headers": good["headers"] | {"X-Twilio-Email-Event-Webhook-Signature": "no base64"}},
    ]
    for each in forged:
        assert (await anonymous.post(path, **each)).status_code == 403
    assert (await status(database, tenant_id))[0] == "sent"
    strange: list[Any] = [{}, [1], "x", [[]]]
    for malformed in strange:
        answer = await anonymous.post(path, **mail.sendgrid(malformed))
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body")
    assert (await anonymous.post(path.replace("sendgrid", "mailgun"), **good)).status_code == 404
    assert (await anonymous.post(path[:-3] + "xxx", **good)).status_code == 404
    assert (await anonymous.post(path.replace("sendgrid", "pigeon"), **good)).status_code in {404, 422}


@pytest.mark.parametrize("provider", ["sendgrid", "mailgun", "postmark", "ses"])
async def test_without_what_verifies_them_reports_are_not_taken(
    client: AsyncClient, anonymous: AsyncClient, amazon: Amazon, provider: str
) -> None:
    assert amazon.asked == []
    bare: Mapping[str, dict[str, Any]] = {
        "sendgrid": {"config": {}},
        "mailgun": {"secret": {"password": "p"}},
        "postmark": {"secret": {"server_token": "t"}},
        "ses": {"config": {"region": "eu-west-1", "username": "AKIA"}},
    }
    path = await made(client, provider, **bare[provider])
    assert (await anonymous.post(path, content=b"{}")).status_code == 403


async def test_a_token_of_mailgun_is_taken_once(
    client: AsyncClient, anonymous: AsyncClient, database: Database, tenant_id: UUID, message: Message
) -> None:
    path = await made(client, "mailgun")
    ours = {"user-variables": {"throughline_message": str(message.id)}}
    delivered = mail.mailgun(ours | {"event": "delivered"}, token="t" * 50)
    assert counts(await anonymous.post(path, content=delivered)) == (1, 0, 0)
    assert counts(await anonymous.post(path, content=delivered)) == (0, 0, 0)
    stolen = json.loads(delivered) | {"event-data": ours | {"event": "complained"}}
    assert (await anonymous.post(path, json=stolen)).status_code == 403
    for forged in (
        mail.mailgun(ours | {"event": "complained"}, key="another"),
        mail.mailgun(ours | {"event": "complained"}, age=13 * 3600),
        mail.mailgun(ours | {"event": "complained"}, age=-3600),
        json.dumps({"signature": {}, "event-data": {}}).encode(),
    ):
        assert (await anonymous.post(path, content=forged)).status_code == 403
    assert await status(database, tenant_id) == ("delivered", None, None)
    for malformed in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000):
        assert (await anonymous.post(path, content=malformed)).status_code == 422
    failed = {"event": "failed", "severity": "temporary"}
    assert counts(await anonymous.post(path, content=mail.mailgun(ours | failed))) == (0, 1, 0)
    hard = ours | {"event": "failed", "severity": "permanent", "reason": "bounce"}
    hard |= {"delivery-status": {"code": 550, "message": "5.1.1 no such user"}}
    assert counts(await anonymous.post(path, content=mail.mailgun(hard))) == (1, 0, 0)
    assert await status(database, tenant_id) == ("bounced", "hard: 550 5.1.1 no such user", "bounced")


async def test_postmark_names_itself_by_credentials(
    client: AsyncClient, anonymous: AsyncClient, database: Database, tenant_id: UUID, message: Message
) -> None:
    path = await made(client, "postmark")
    ours = {"Metadata": {"throughline_message": str(message.id)}}
    complaint = ours | {"RecordType": "SpamComplaint", "Type": "SpamComplaint", "Details": "abuse"}
    for wrong in (("hook", "other"), ("other", "secret")):
        assert (await anonymous.post(path, json=complaint, auth=wrong)).status_code == 401
    assert (await anonymous.post(path, json=complaint)).status_code == 401
    assert (await anonymous.post(path, json=complaint, headers={"Authorization": "Bearer x"})).status_code == 401
    assert counts(await anonymous.post(path, json=ours | {"RecordType": "Delivery"}, auth=BASIC)) == (1, 0, 0)
    assert counts(await anonymous.post(path, json=ours | {"RecordType": "Open"}, auth=BASIC)) == (0, 1, 0)
    for _ in range(2):
        assert counts(await anonymous.post(path, json=complaint, auth=BASIC)) == (1, 0, 0)
    assert await status(database, tenant_id) == ("complained", "SpamComplaint abuse", "complained")
    assert (await anonymous.post(path, content=b"[]", auth=BASIC)).status_code == 422


@pytest.mark.parametrize("version", ["1", "2"])
async def test_ses_reports_through_sns(
    client: AsyncClient,
    anonymous: AsyncClient,
    database: Database,
    tenant_id: UUID,
    message: Message,
    amazon: Amazon,
    version: str,
) -> None:
    path = await made(client, "ses")
    url = f"https://{mail.HOST}/?Action=ConfirmSubscription"
    asked = amazon.message("x", version=version, Type="SubscriptionConfirmation", SubscribeURL=url, Token="t")
    assert counts(await anonymous.post(path, content=asked)) == (0, 0, 0)
    assert amazon.asked == ["/SimpleNotificationService-1.pem", "/?Action=ConfirmSubscription"]
    tagged = {"tags": {"throughline_message": [str(message.id)]}}
    bounce = {
        "bounceType": "Permanent",
        "bounceSubType": "General",
        "bouncedRecipients": [{"emailAddress": "ann@example.com", "status": "5.1.1", "diagnosticCode": "smtp; 550 no"}],
    }
    for event in ({"eventType": "Delivery"}, {"eventType": "Bounce", "bounce": bounce}):
        posted = amazon.message(event | {"mail": tagged}, version=version, Subject="Amazon SES Email Event")
        for _ in range(2):
            assert counts(await anonymous.post(path, content=posted)) == (1, 0, 0)
    assert await status(database, tenant_id) == ("bounced", "hard: Permanent General 5.1.1 smtp; 550 no", "bounced")
    assert len(amazon.asked) == 2  # the certificate is known


async def test_what_sns_did_not_sign_or_for_another_is_refused(
    client: AsyncClient, anonymous: AsyncClient, database: Database, tenant_id: UUID, message: Message, amazon: Amazon
) -> None:
    path = await made(client, "ses")
    event = {"eventType": "Complaint", "mail": {"tags": {"throughline_message": [str(message.id)]}}}
    tampered = json.loads(amazon.message(event)) | {"MessageId": "other"}
    elsewhere = (
        "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
        "https://evil.example/sns.eu-west-1.amazonaws.com/a.pem",
        "http://sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/a.pem",
        "https://u@sns.eu-west-1.amazonaws.com/a.pem",
        "https://bucket.s3.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.txt",
        "https://[",
    )
    forged = [
        json.dumps(tampered).encode(),
        amazon.message(event, TopicArn=mail.TOPIC + "2"),
        *(amazon.message(event, SigningCertURL=url) for url in elsewhere),
        amazon.message("x", Type="SubscriptionConfirmation", SubscribeURL="https://evil.example/", Token="t"),
    ]
    for each in forged:
        assert (await anonymous.post(path, content=each)).status_code == 403
    assert set(amazon.asked) <= {"/SimpleNotificationService-1.pem"}
    for malformed in (b"x", b"[]", b'{"Type": "Other"}', amazon.message(event, SignatureVersion="3")):
        assert (await anonymous.post(path, content=malformed)).status_code == 422
    amazon.down = True
    other = amazon.message(event, SigningCertURL=f"https://{mail.HOST}/SimpleNotificationService-2.pem")
    assert (await anonymous.post(path, content=other)).status_code == 503
    assert (await status(database, tenant_id))[0] == "sent"
    amazon.down = False
    assert counts(await anonymous.post(path, content=other)) == (1, 0, 0)
    assert (await status(database, tenant_id))[0] == "complained"


def _sendgrid(**event: str) -> Told:
    return sendgrid.read(json.dumps([event]).encode())[0]


def _mailgun(**event: object) -> Told:
    return mailgun.read(mail.mailgun(event), mail.MAILGUN_KEY, now=time.time()).told


def _ses(**event: object) -> Told:
    return ses.read(json.dumps(event))


def _postmark(**event: object) -> Told:
    return postmark.read(json.dumps(event).encode())


def test_what_each_event_of_a_provider_means() -> None:
    failed = {"event": "failed", "severity": "permanent"}
    expected = [
        (_sendgrid(event="bounce", type="blocked", status="5.7.1"), "soft_bounce"),
        (_sendgrid(event="bounce", type="bounce", status="5.7.1"), "soft_bounce"),
        (_sendgrid(event="bounce", type="bounce"), "hard_bounce"),
        (_sendgrid(event="dropped", reason="Bounced Address"), "hard_bounce"),
        (_sendgrid(event="dropped", reason="Unsubscribed Address"), "soft_bounce"),
        (_sendgrid(event="deferred"), None),
        (_sendgrid(event="group_unsubscribe"), "unsubscribed"),
        (_mailgun(**failed, reason="suppress-bounce"), "hard_bounce"),
        (_mailgun(**failed, reason="suppress-complaint"), "complained"),
        (_mailgun(**failed, reason="old"), "soft_bounce"),
        (_mailgun(**failed, reason="generic", **{"delivery-status": {"message": "5.1.1 who"}}), "hard_bounce"),
        (_mailgun(event="unsubscribed"), "unsubscribed"),
        (_mailgun(event="clicked"), None),
        (_postmark(RecordType="Bounce", Type="HardBounce"), "hard_bounce"),
        (_postmark(RecordType="Bounce", Type="SoftBounce"), "soft_bounce"),
        (_postmark(RecordType="Bounce", Type="Transient"), None),
        (
            _postmark(
                RecordType="SubscriptionChange",
                SuppressSending=True,
                Origin="Recipient",
                SuppressionReason="ManualSuppression",
            ),
            "unsubscribed",
        ),
        (_postmark(RecordType="SubscriptionChange", SuppressSending=True, Origin="Customer"), None),
        (_postmark(RecordType="SubscriptionChange", SuppressSending=False, Origin="Recipient"), None),
        (_ses(eventType="Bounce", bounce={"bounceType": "Transient"}), "soft_bounce"),
        (_ses(notificationType="Bounce", bounce={"bounceType": "Permanent"}), "hard_bounce"),
        (_ses(eventType="Complaint", complaint={"complaintFeedbackType": "not-spam"}), None),
        (
            _ses(eventType="Subscription", subscription={"newTopicPreferences": {"unsubscribeAll": True}}),
            "unsubscribed",
        ),
        (_ses(eventType="Open"), None),
    ]
    assert [told.kind for told, _ in expected] == [kind for _, kind in expected]


def test_ses_names_the_message_by_its_headers_too() -> None:
    ours = uuid4()
    for name, value in (
        ("Message-ID", f"<{ours}@shop.example>"),
        ("X-SES-MESSAGE-TAGS", f"throughline_message={ours}"),
    ):
        told = _ses(eventType="Delivery", mail={"headers": [{"name": name, "value": value}]})
        assert told.message_id == ours
