"""Mail that says it is from a tenant's own domain is signed, and whoever gets it can see that it is."""

import base64
from uuid import UUID

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from core.actor import CLI
from core.database import Database
from core.sealing import Seal
from core.settings import Settings
from integrations.dns.txt import Resolver
from integrations.email.signing import Signer, for_sender, relaxed_body
from models import SenderDomain
from services.marketing import sender_domains
from services.tenancy import tenants
from tests.integrations.email.dns_server import Zone, serving_zone
from tests.sender.support import MailServer, open_pages, queue_for, sending, statuses, until

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def verified(database: Database, settings: Settings, zone: Zone, tenant_id: UUID, domain: str) -> SenderDomain:
    seal = Seal(settings.secret_key.get_secret_value())
    async with database.tenant(tenant_id) as session:
        row = await sender_domains.create(session, domain, seal=seal, by=CLI)
    publish(zone, row)
    return await sender_domains.check(database, tenant_id, row.id, Resolver(zone.address), spf_include=None, by=CLI)


def publish(zone: Zone, row: SenderDomain) -> None:
    for record in sender_domains.records(row, None):
        zone.texts[record.name] = [record.value]


def verify(zone: Zone, content: bytes) -> bool:
    def txt(name: bytes, timeout: int = 5) -> bytes | None:
        texts = zone.texts.get(name.decode().rstrip("."))
        return texts[0].encode() if texts else None

    return bool(dkim.verify(content, dnsfunc=txt))  # pyright: ignore[reportUnknownMemberType]  # it has no types


async def test_mail_of_a_verified_domain_is_signed_through_smtp_and_a_new_key_takes_over(
    database: Database, smtp_settings: Settings, mail_server: MailServer
) -> None:
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "signed", "Signed")).id
    seal = Seal(smtp_settings.secret_key.get_secret_value())
    async with serving_zone() as zone:
        row = await verified(database, smtp_settings, zone, tenant_id, "shop.example")
        assert (row.status, row.selector) == ("verified", "tl1")

        async def send(name: str, sender: str) -> bytes:
            await queue_for(database, tenant_id, [name], key=name, from_address=sender)

            async def sent() -> bool:
                return not await open_pages(database, tenant_id)

            async with sending(database, smtp_settings):
                await until(sent)
            return mail_server.raw[-1]

        mail = await send("ann", "Shop <hello@news.shop.example>")
        assert verify(zone, mail)
        head = mail.partition(b"\r\n\r\n")[0].decode().replace("\r\n ", " ")
        signature = next(line for line in head.split("\r\n") if line.startswith("DKIM-Signature"))
        tags = {name.strip(): value for name, _, value in (tag.partition("=") for tag in signature.split(";"))}
        signed = [name.strip() for name in tags["h"].split(":")]
        assert signed.count("from") == 2
        assert {"to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post"} <= set(signed)
        for damage in (
            (b"Hello", b"Hullo"),
            (b"List-Unsubscribe-Post: List-Unsubscribe=One-Click", b"List-Unsubscribe-Post: x"),
            (b"From: ", b"From: evil@shop.example\r\nFrom: "),
        ):
            assert not verify(zone, mail.replace(*damage)), damage
        async with database.tenant(tenant_id) as session:
            row = await sender_domains.rotate(session, row.id, seal=seal, by=CLI)
        assert (row.selector, row.next_selector) == ("tl1", "tl2")
        assert b"s=tl1" in await send("bob", "hello@shop.example"), "the old one until the new one is found"
        publish(zone, row)
        row = await sender_domains.check(database, tenant_id, row.id, Resolver(zone.address), spf_include=None, by=CLI)
        assert (row.status, row.selector, row.next_selector) == ("verified", "tl2", None)
        mail = await send("cyd", "hello@shop.example")
        assert b"s=tl2" in mail
        assert verify(zone, mail)
        assert b"DKIM-Signature" not in await send("dan", "hello@other.example")
        async with database.tenant(tenant_id) as session:
            await sender_domains.delete(session, row.id, by=CLI)
        assert b"DKIM-Signature" not in await send("eve", "hello@shop.example")


async def test_mail_of_other_domains_is_not_sent_where_verified_ones_are_required(
    database: Database, smtp_settings: Settings, mail_server: MailServer
) -> None:
    strict = smtp_settings.model_copy(update={"require_verified_domain": True})
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "strict", "Strict")).id
    async with serving_zone() as zone:
        row = await verified(database, strict, zone, tenant_id, "strict.example")
    await queue_for(database, tenant_id, ["ann"], key="own", from_address="Shop <hello@news.strict.example>")
    await queue_for(database, tenant_id, ["bob"], key="none")
    await queue_for(database, tenant_id, ["cyd"], key="other", from_address="hello@other.example")

    async def done() -> bool:
        return not await open_pages(database, tenant_id)

    async with sending(database, strict):
        await until(done)
    async with database.tenant(tenant_id) as session:
        await sender_domains.delete(session, row.id, by=CLI)
    await queue_for(database, tenant_id, ["dan"], key="gone", from_address="hello@strict.example")
    async with sending(database, strict):
        await until(done)
    assert await statuses(database, tenant_id) == {
        "ann": ("sent", None),
        "bob": ("sent", None),  # from the deployment's own address
        "cyd": ("failed", "sender: other.example is not a verified sender domain"),
        "dan": ("failed", "sender: strict.example is not a verified sender domain"),
    }


async def test_a_record_that_goes_is_noticed_and_a_silent_server_is_not(
    database: Database, smtp_settings: Settings
) -> None:
    async with database.system() as session:
        tenant_id = (await tenants.create(session, "watched", "Watched")).id
    async with serving_zone() as zone:
        row = await verified(database, smtp_settings, zone, tenant_id, "shop.example")
        lookup = Resolver(zone.address)

        async def again() -> SenderDomain:
            return await sender_domains.check(database, tenant_id, row.id, lookup, spf_include=None, by=CLI)

        zone.broken = True
        silent = await again()
        assert (silent.status, silent.checks and silent.checks["dkim"]["status"]) == ("verified", "unknown")
        zone.broken = False
        zone.texts[f"tl1._domainkey.{row.domain}"] = ["v=DKIM1; k=rsa; p=b3RoZXI="]
        other = await again()
        assert (other.status, other.checks and other.checks["dkim"]["status"]) == ("failed", "differs")
        publish(zone, row)
        assert (await again()).status == "verified"
        zone.texts.clear()
        async with database.tenant(tenant_id) as session:
            kept = (await session.scalars(select(SenderDomain).where(SenderDomain.tenant_id == tenant_id))).one()
            assert kept.checked_at is not None
            kept.checked_at = kept.checked_at - sender_domains.CHECK_AFTER
        await sender_domains.check_again(database, lookup, spf_include=None)
        async with database.tenant(tenant_id) as session:
            assert (await sender_domains.get(session, row.id)).status == "failed"


def test_a_sender_is_signed_for_by_its_own_domain_or_the_nearest_above() -> None:
    shop, news = Signer("shop.example", "tl1", KEY), Signer("news.shop.example", "tl1", KEY)
    signers = {"shop.example": shop, "news.shop.example": news}
    assert for_sender(signers, "a@Shop.example") is shop
    assert for_sender(signers, "a@x.news.shop.example") is news
    assert for_sender(signers, "a@myshop.example") is None


@given(
    st.lists(st.sampled_from([b"a", b"b ", b" ", b"\t", b"\r\n", b".", b"=C3=A9"]), max_size=30).map(
        lambda parts: b"".join([*parts, b"\r\n"])
    )
)
def test_bodies_are_hashed_as_the_verifier_hashes_them(body: bytes) -> None:
    assert relaxed_body(body) == Relaxed.canonicalize_body(body)  # pyright: ignore[reportUnknownMemberType]  # no types


@pytest.mark.parametrize(
    "more",
    [
        b"",
        b"Subject: of\r\n two  \t lines \r\n",
        b"SUBJECT:x\r\nX-Other: y\r\nList-Unsubscribe:\r\n <https://t.example/u>\r\n",
    ],
)
@pytest.mark.parametrize("body", [b"", b"\r\n\r\n", b"one", b"a  b \r\n\tc\r\n \r\n\r\n"])
def test_a_signature_holds_and_covers_headers_and_body(more: bytes, body: bytes) -> None:
    der = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    zone = Zone()
    zone.texts["tl1._domainkey.shop.example"] = [f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"]
    head = b"From: a@shop.example\r\nTo: b@x.example\r\n" + more
    mail = Signer("shop.example", "tl1", KEY).sign(head + b"\r\n" + body)
    assert max(map(len, mail.split(b"\r\n"))) <= 78
    assert verify(zone, mail)
    assert not verify(zone, mail + b"more")
    assert not verify(zone, mail.replace(b"b@x.example", b"c@x.example"))
    assert not verify(zone, b"From: other@x.example\r\n" + mail)


@pytest.mark.parametrize("text", ["shop", "localhost", "192.0.2.1", "a..b", "-a.example", "x.local", "a b.example"])
def test_what_mail_cannot_come_from_is_refused(text: str) -> None:
    with pytest.raises(sender_domains.InvalidError, match="domain"):
        sender_domains.normalized(text)


def test_domains_are_kept_in_ascii() -> None:
    assert sender_domains.normalized("Käse.Example.") == "xn--kse-qla.example"
