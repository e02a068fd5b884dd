"""Domains that mail is sent from, and the records to publish for them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, status
from pydantic import Field

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, SettingsDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.sealing import Seal
from integrations.dns.txt import Resolver, TxtLookup
from models import SenderDomain
from services.marketing import sender_domains

router = Router(prefix="/sender-domains", tags=["channels"])

READ = [requires("channels:read")]
WRITE = [requires("channels:write")]


def get_seal(settings: SettingsDep) -> Seal:
    """Return what keys are sealed with."""
    return Seal(settings.secret_key.get_secret_value())


def get_lookup(settings: SettingsDep) -> TxtLookup:
    """Return who is asked for records."""
    return Resolver(settings.dns_resolver)


SealDep = Annotated[Seal, Depends(get_seal)]
LookupDep = Annotated[TxtLookup, Depends(get_lookup)]


class DomainIn(Strict):
    """A domain to send from."""

    domain: Annotated[str, Field(min_length=1, max_length=253)]
    """Of your own, as in `shop.example`; mail from hosts below it is signed for it too."""


class DnsRecordOut(Strict):
    """A TXT record."""

    kind: Literal["dkim", "next_dkim", "spf", "dmarc"]
    name: str
    value: str
    required: bool
    """Whether the domain is verified by it; the others are advice."""


class DomainOut(Strict):
    """A domain that mail is sent from."""

    id: UUID
    domain: str
    status: Literal["pending", "verified", "failed"]
    selector: str
    next_selector: str | None
    records: list[DnsRecordOut]
    checks: dict[str, Any] | None
    """By kind of record: `expected`, what was `found`, and `status`: found, missing, differs or unknown."""
    checked_at: datetime | None
    verified_at: datetime | None
    created_at: datetime


def _shape(row: SenderDomain, spf_include: str | None) -> DomainOut:
    fields = {name: getattr(row, name) for name in DomainOut.model_fields if name != "records"}
    found = [DnsRecordOut.model_validate(record) for record in sender_domains.records(row, spf_include)]
    return DomainOut(records=found, **fields)


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(
    body: DomainIn, session: SessionDep, actor: ActorDep, seal: SealDep, settings: SettingsDep
) -> DomainOut:
    """Claim a domain; the answer has the records to publish for it."""
    return _shape(await sender_domains.create(session, body.domain, seal=seal, by=actor), settings.spf_include)


@router.get("", dependencies=READ)
async def find(
    session: SessionDep, settings: SettingsDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[DomainOut]:
    """List domains, oldest first."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await sender_domains.page(session, limit=limit + 1, after=after)
    return Page(
        items=[_shape(row, settings.spf_include) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{domain_id}", dependencies=READ)
async def get(domain_id: UUID, session: SessionDep, settings: SettingsDep) -> DomainOut:
    """Return a domain."""
    return _shape(await sender_domains.get(session, domain_id), settings.spf_include)


@router.post("/{domain_id}/check", dependencies=WRITE)
async def check(
    domain_id: UUID,
    database: DatabaseDep,
    principal: PrincipalDep,
    actor: ActorDep,
    lookup: LookupDep,
    settings: SettingsDep,
) -> DomainOut:
    """Look for the domain's records; mail is signed once the DKIM record is there."""
    row = await sender_domains.check(
        database, principal.tenant_id, domain_id, lookup, spf_include=settings.spf_include, by=actor
    )
    return _shape(row, settings.spf_include)


@router.post("/{domain_id}/rotate", dependencies=WRITE)
async def rotate(
    domain_id: UUID, session: SessionDep, actor: ActorDep, seal: SealDep, settings: SettingsDep
) -> DomainOut:
    """Make a new key; the old one signs until the new one's record was found by a check."""
    return _shape(await sender_domains.rotate(session, domain_id, seal=seal, by=actor), settings.spf_include)


@router.delete("/{domain_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(domain_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Give a domain up; mail from it is not signed any more."""
    await sender_domains.delete(session, domain_id, by=actor)
