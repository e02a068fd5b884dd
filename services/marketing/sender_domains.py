"""Domains that a tenant sends mail from: their keys, the records to publish, and whether those are there.

The DKIM record is what proves a domain: it holds a key made for this tenant, and only who runs the domain can publish
it. Any tenant may claim a domain; one of them can have it verified.
"""

import base64
import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import Any, Final, Literal
from uuid import UUID

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from contracts.events import SENDER_DOMAIN_FAILED, SENDER_DOMAIN_VERIFIED
from core.actor import SYSTEM, Actor
from core.database import Database, TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from core.sealing import Seal
from integrations.dns.txt import LookupFailedError, TxtLookup
from models import SenderDomain
from services.events.publish import NewEvent, publish
from services.shared import activity

KEY_BITS: Final = 2048
MAX_DOMAINS: Final = 100
CHECK_AFTER: Final = timedelta(hours=20)
"""Verified domains are looked at again once a day."""
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_RESERVED: Final = frozenset({"localhost", "local", "invalid", "internal", "arpa", "onion"})

Found = Literal["found", "missing", "differs", "unknown"]


@dataclass(frozen=True, slots=True)
class Record:
    """A TXT record to publish, or advised."""

    kind: Literal["dkim", "next_dkim", "spf", "dmarc"]
    name: str
    value: str
    required: bool


def normalized(text: str) -> str:
    """Return the domain in ASCII and lower case.

    Raises:
        InvalidError: it is not one that mail can come from.
    """
    try:
        domain = text.strip().rstrip(".").lower().encode("idna").decode().lower()
    except UnicodeError as error:
        raise InvalidError.of("domain", "is not a domain name") from error
    labels = domain.split(".")
    if len(domain) > 253 or not all(_LABEL.fullmatch(label) for label in labels):  # noqa: PLR2004 - RFC 1035
        raise InvalidError.of("domain", "is not a domain name")
    if len(labels) == 1 or labels[-1] in _RESERVED or labels[-1].isdigit() or _is_address(domain):
        raise InvalidError.of("domain", "must be a domain of your own, as in shop.example")
    return domain


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


async def problem_with_sender(session: TenantSession, sender: str) -> str | None:
    """Say why mail may not be from `Name <address>` or an address where it must be from a verified domain.

    None when it may: the domain is one, or below one.
    """
    domain = parseaddr(sender)[1].rpartition("@")[2].lower()
    with suppress(UnicodeError):
        domain = domain.encode("idna").decode()
    labels = domain.split(".")
    names = [".".join(labels[start:]) for start in range(len(labels))]
    verified = exists().where(
        SenderDomain.tenant_id == session.tenant_id, SenderDomain.domain.in_(names), SenderDomain.status == "verified"
    )
    return None if await session.scalar(select(verified)) else f"{domain} is not a verified sender domain"


def records(row: SenderDomain, spf_include: str | None) -> list[Record]:
    """Return the records to publish for the domain."""
    found = [Record("dkim", f"{row.selector}._domainkey.{row.domain}", _dkim_value(row.public_key), required=True)]
    if row.next_selector is not None and row.next_public_key is not None:
        name = f"{row.next_selector}._domainkey.{row.domain}"
        found.append(Record("next_dkim", name, _dkim_value(row.next_public_key), required=True))
    include = f" include:{spf_include}" if spf_include else " a mx"
    return [
        *found,
        Record("spf", row.domain, f"v=spf1{include} ~all", required=False),
        Record("dmarc", f"_dmarc.{row.domain}", "v=DMARC1; p=none", required=False),
    ]


def _dkim_value(public_key: str) -> str:
    return f"v=DKIM1; k=rsa; p={public_key}"


def _new_key(seal: Seal) -> tuple[bytes, str]:
    """Return a private key, sealed, and its public half."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return seal.close(pem), base64.b64encode(der).decode()


async def create(session: TenantSession, domain: str, *, seal: Seal, by: Actor) -> SenderDomain:
    """Claim a domain, with a key of its own.

    Raises:
        InvalidError: it is not a domain that mail can come from.
        ConflictError: the tenant has it already, or too many.
    """
    domain = normalized(domain)
    if len(await page(session, limit=MAX_DOMAINS, after=None)) >= MAX_DOMAINS:
        raise ConflictError(f"There can be at most {MAX_DOMAINS} domains.")
    private, public = _new_key(seal)
    row = await session.scalar(
        insert(SenderDomain)
        .values(
            tenant_id=session.tenant_id,
            id=new_id(),
            domain=domain,
            selector="tl1",
            private_key=private,
            public_key=public,
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "domain"])
        .returning(SenderDomain)
    )
    if row is None:
        raise ConflictError(f"{domain} is there already.", errors=[FieldProblem("domain", "is there already")])
    await _log(session, row, "sender_domain.created", {"domain": (None, domain)}, by=by)
    return row


async def rotate(session: TenantSession, domain_id: UUID, *, seal: Seal, by: Actor) -> SenderDomain:
    """Make a new key; the old one signs until the new one's record was found. Repeated, the new one is made anew.

    Raises:
        NotFoundError: no such domain in this tenant.
    """
    row = await get(session, domain_id, lock=True)
    before = row.next_selector
    row.next_private_key, row.next_public_key = _new_key(seal)
    row.next_selector = f"tl{int((before or row.selector).removeprefix('tl')) + 1}"
    await session.flush()
    await _log(session, row, "sender_domain.rotated", {"next_selector": (before, row.next_selector)}, by=by)
    return row


async def delete(session: TenantSession, domain_id: UUID, *, by: Actor) -> None:
    """Give a domain up, with its keys: mail from it is not signed any more.

    Raises:
        NotFoundError: no such domain in this tenant.
    """
    row = await get(session, domain_id, lock=True)
    await session.delete(row)
    await session.flush()
    await _log(session, row, "sender_domain.deleted", {"domain": (row.domain, None)}, by=by)


async def get(session: TenantSession, domain_id: UUID, *, lock: bool = False) -> SenderDomain:
    """Return a domain.

    Raises:
        NotFoundError: no such domain in this tenant.
    """
    row = await session.get(
        SenderDomain, (session.tenant_id, domain_id), with_for_update=lock or None, populate_existing=True
    )
    if row is None:
        raise NotFoundError("No such sender domain.")
    return row


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[SenderDomain]:
    """Return up to `limit` domains, oldest first, those made after `after` only."""
    statement = select(SenderDomain).where(SenderDomain.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(SenderDomain.id > after)
    return (await session.scalars(statement.order_by(SenderDomain.id).limit(limit))).all()


async def look(wanted: Sequence[Record], lookup: TxtLookup) -> dict[str, Any]:
    """Return what is found of each record, by kind; do it outside a transaction, as it waits for other hosts."""
    checks: dict[str, Any] = {}
    for record in wanted:
        status: Found
        texts: list[str] = []
        try:
            texts = await lookup.txt(record.name)
            status = _judge(record, texts)
        except LookupFailedError:
            status = "unknown"
        shown = [text[:1000] for text in texts if _is_of_kind(record, text)][:5]
        checks[record.kind] = {"name": record.name, "expected": record.value, "found": shown, "status": status}
    return checks


def _is_of_kind(record: Record, text: str) -> bool:
    if record.kind in {"dkim", "next_dkim"}:
        return True
    return text.lower().startswith("v=spf1" if record.kind == "spf" else "v=dmarc1")


def _judge(record: Record, texts: Sequence[str]) -> Found:
    ours = [text for text in texts if _is_of_kind(record, text)]
    if not ours:
        return "missing"
    if record.kind == "dmarc":
        return "found"
    if record.kind == "spf":
        # one record alone is valid (RFC 7208, section 4.5)
        include = record.value.partition("include:")[2].partition(" ")[0]
        return "found" if len(ours) == 1 and (not include or f"include:{include}" in ours[0].split()) else "differs"
    wanted = _tags(record.value)["p"]
    return "found" if any(_tags(text).get("p") == wanted for text in ours) else "differs"


def _tags(text: str) -> dict[str, str]:
    """Return the tags of a DKIM record, without white space."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(): re.sub(r"\s+", "", value) for name, _, value in pairs}


async def record_checks(
    session: TenantSession, domain_id: UUID, checked: SenderDomain, checks: dict[str, Any], *, by: Actor
) -> SenderDomain:
    """Keep what was found of `checked`, the domain as it was when it was looked for, and what follows from it.

    What nobody could answer changes nothing. A new key whose record was found takes the old one's place.

    Raises:
        NotFoundError: no such domain in this tenant.
        ConflictError: another tenant has it verified.
    """
    row = await get(session, domain_id, lock=True)
    if (row.selector, row.next_selector) != (checked.selector, checked.next_selector):
        return row  # changed meanwhile: it was another record that was looked for
    before = row.status
    now = datetime.now(UTC)
    row.checks, row.checked_at = checks, now
    if checks.get("next_dkim", {}).get("status") == "found":
        assert row.next_selector and row.next_private_key and row.next_public_key  # noqa: S101, PT018 - set together
        row.selector, row.private_key, row.public_key = row.next_selector, row.next_private_key, row.next_public_key
        row.next_selector = row.next_private_key = row.next_public_key = None
        row.status = "verified"
    elif checks["dkim"]["status"] == "found":
        row.status = "verified"
    elif checks["dkim"]["status"] != "unknown":
        row.status = "failed" if before in {"verified", "failed"} else "pending"
    if row.status == "verified" and before != "verified":
        row.verified_at = now
    try:
        async with session.begin_nested():
            await session.flush()
    except IntegrityError as error:
        raise ConflictError(
            f"Another tenant has {checked.domain} verified: its records must be given up first.",
            errors=[FieldProblem("domain", "is another tenant's")],
        ) from error
    await _log(session, row, "sender_domain.checked", {"status": (before, row.status)}, by=by)
    if row.status not in {before, "pending"}:
        event_type = SENDER_DOMAIN_VERIFIED if row.status == "verified" else SENDER_DOMAIN_FAILED
        properties = {"domain": row.domain, "status": row.status}
        await publish(session, [NewEvent(event_type, row.id, subject_type="sender_domain", properties=properties)])
    return row


async def check(
    database: Database,
    tenant_id: UUID,
    domain_id: UUID,
    lookup: TxtLookup,
    *,
    spf_include: str | None,
    by: Actor,
) -> SenderDomain:
    """Look for a domain's records and keep what was found.

    Raises:
        NotFoundError: no such domain in this tenant.
        ConflictError: another tenant has it verified.
    """
    async with database.tenant(tenant_id) as session:
        row = await get(session, domain_id)
    checks = await look(records(row, spf_include), lookup)
    async with database.tenant(tenant_id) as session:
        return await record_checks(session, domain_id, row, checks, by=by)


async def check_again(database: Database, lookup: TxtLookup, *, spf_include: str | None) -> None:
    """Look at all verified domains that were not looked at for a day."""
    async with database.system() as session:
        due = (
            await session.execute(
                select(SenderDomain.tenant_id, SenderDomain.id)
                .where(SenderDomain.status == "verified", SenderDomain.checked_at < datetime.now(UTC) - CHECK_AFTER)
                .order_by(SenderDomain.tenant_id, SenderDomain.id)
            )
        ).all()
    for row in due:
        try:
            await check(database, row.tenant_id, row.id, lookup, spf_include=spf_include, by=SYSTEM)
        except (NotFoundError, ConflictError):
            continue  # given up meanwhile


async def _log(session: TenantSession, row: SenderDomain, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="sender_domain", subject_id=row.id, type=verb, changes=changes)
