"""Organizations: created, changed, removed and found. A change is logged and published in its transaction."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Uuid, column, delete, exists, func, or_, select, table
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import attributes as attribute_state

from contracts.events import ORGANIZATION_CREATED, ORGANIZATION_DELETED, ORGANIZATION_UPDATED, PERSON_UNLINKED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError, UnavailableError
from core.ids import new_id
from models import Address, Organization, OrganizationEntry, OrganizationPerson, Tenant
from services.events.publish import NewEvent, publish
from services.identity import attribute_definitions, attributes, lifecycle, organization_tree
from services.identity.organization_change import OrganizationChange, same, shown
from services.identity.owners import check_owner
from services.objects import associations
from services.shared import activity

ATTEMPTS: Final = 5
"""How often an upsert starts again because its keys were taken, or its organization vanished, in the meantime."""
KEYS: Final = ("external_id", "domain")
"""What an organization is known by, the stronger first."""
_DEALS: Final = table("crm_deal_facts", column("tenant_id", Uuid), column("organization_id", Uuid))
_ORDERS: Final = table("commerce_orders", column("tenant_id", Uuid), column("organization_id", Uuid))


async def upsert(session: TenantSession, change: OrganizationChange, *, by: Actor) -> tuple[Organization, bool]:
    """Create the organization, or change the one known by the external id or the domain; say whether it is new.

    Raises:
        InvalidError: a value is not acceptable.
        ConflictError: external id and domain are of two organizations, or the domain's has another external id.
        UnavailableError: others changed the same organization again and again meanwhile.
    """
    change = change.normalized()
    await attribute_definitions.check(session, "organization", change.attributes)
    known_by = {key: value for key in KEYS if (value := change.fields.get(key)) is not None}
    await organization_tree.lock_for(session, change.fields)
    for _ in range(ATTEMPTS):
        owners = await _owners(session, known_by)
        if len(set(owners.values())) > 1:
            raise _two_organizations(owners)
        if not owners:
            organization = await _create(session, change, by=by)
            if organization is not None:
                return organization, True
            continue  # another request has just created one with this external id or domain
        organization = await locked(session, next(iter(owners.values())))
        if organization is None:
            continue
        theirs = organization.external_id
        if theirs is not None and change.fields.get("external_id") not in {None, theirs}:
            raise ConflictError(
                f"The organization {organization.id} has this domain and another external id.",
                errors=[FieldProblem("domain", f"is of organization {organization.id}")],
                extra={"organization_ids": [str(organization.id)]},
            )
        given = {name: value for name, value in change.fields.items() if value is not None}
        await _apply(session, organization, replace(change, fields=given), by=by)
        return organization, False
    raise UnavailableError("Other requests keep changing the same organization; try again in a moment.")


async def update(
    session: TenantSession, organization_id: UUID, change: OrganizationChange, *, by: Actor
) -> Organization:
    """Change an organization; return it.

    Raises:
        NotFoundError: no such organization in this tenant.
        InvalidError: a value is not acceptable.
        ConflictError: the external id or the domain is another's; the parent is among what is below it; or the
            currency is fixed by the ledger.
    """
    change = change.normalized()
    await attribute_definitions.check(session, "organization", change.attributes)
    await organization_tree.lock_for(session, change.fields)
    organization = await locked(session, organization_id)
    if organization is None:
        raise NotFoundError("No such organization.")
    await _apply(session, organization, change, by=by)
    return organization


async def get(session: TenantSession, organization_id: UUID) -> Organization:
    """Return the organization.

    Raises:
        NotFoundError: no such organization in this tenant.
    """
    organization = await session.get(Organization, (session.tenant_id, organization_id))
    if organization is None:
        raise NotFoundError("No such organization.")
    return organization


async def remove(session: TenantSession, organization_id: UUID, *, by: Actor) -> None:
    """Delete an organization with its addresses, associations and links to people, whose roles are computed anew.

    Raises:
        NotFoundError: no such organization in this tenant.
        ConflictError: others are below it, deals are with it, it has orders, or its ledger has entries, which are never
            deleted.
    """
    tenant = session.tenant_id
    await organization_tree.lock(session)
    organization = await session.get(
        Organization, (tenant, organization_id), with_for_update=True, populate_existing=True
    )
    if organization is None:
        raise NotFoundError("No such organization.")
    for kept, reason in (
        (
            (Organization.tenant_id == tenant, Organization.parent_id == organization_id),
            "other organizations are below it",
        ),
        (
            (OrganizationEntry.tenant_id == tenant, OrganizationEntry.organization_id == organization_id),
            "its ledger has entries, which are never deleted",
        ),
        ((_DEALS.c.tenant_id == tenant, _DEALS.c.organization_id == organization_id), "deals are with it"),
        ((_ORDERS.c.tenant_id == tenant, _ORDERS.c.organization_id == organization_id), "it has orders"),
    ):
        if await session.scalar(select(exists().where(*kept))):
            raise ConflictError(f"The organization cannot be deleted: {reason}.")
    # People first, then their links: whoever changes a link holds its person already.
    linked = await session.scalars(
        select(OrganizationPerson.person_id).where(
            OrganizationPerson.tenant_id == tenant, OrganizationPerson.organization_id == organization_id
        )
    )
    await lifecycle.lock(
        session, sorted({*linked, *await associations.people_of(session, "organization", organization_id)})
    )
    links = (
        await session.execute(
            delete(OrganizationPerson)
            .where(OrganizationPerson.tenant_id == tenant, OrganizationPerson.organization_id == organization_id)
            .returning(OrganizationPerson.id, OrganizationPerson.person_id, OrganizationPerson.kind)
        )
    ).all()
    await session.execute(
        delete(Address).where(
            Address.tenant_id == tenant, Address.subject_type == "organization", Address.subject_id == organization_id
        )
    )
    await associations.unlink_all(session, "organization", organization_id, by=by)
    await session.delete(organization)
    await session.flush()
    changes = {"name": (organization.name, None), "people": (len(links), 0)}
    await activity.record(
        session,
        by=by,
        subject_type="organization",
        subject_id=organization_id,
        type=ORGANIZATION_DELETED,
        changes=changes,
    )
    unlinked = [
        NewEvent(
            PERSON_UNLINKED,
            organization_id,
            subject_type="organization",
            person_id=link.person_id,
            properties={"link_id": str(link.id), "kind": link.kind},
        )
        for link in links
    ]
    await publish(session, [*unlinked, NewEvent(ORGANIZATION_DELETED, organization_id, subject_type="organization")])
    await lifecycle.recompute(session, [link.person_id for link in links])


async def locked(session: TenantSession, organization_id: UUID) -> Organization | None:
    """Return the organization as it is now, held against changes, though not against being referred to."""
    return await session.get(
        Organization, (session.tenant_id, organization_id), with_for_update={"key_share": True}, populate_existing=True
    )


async def _owners(session: TenantSession, known_by: Mapping[str, str]) -> dict[str, UUID]:
    """Return the organization's id for each of the keys that is known."""
    if not known_by:
        return {}
    rows = await session.execute(
        select(Organization.id, Organization.external_id, Organization.domain).where(
            Organization.tenant_id == session.tenant_id,
            or_(*(getattr(Organization, key) == value for key, value in known_by.items())),
        )
    )
    return {key: row.id for row in rows for key, value in known_by.items() if getattr(row, key) == value}


def _two_organizations(owners: Mapping[str, UUID]) -> ConflictError:
    ids = sorted({str(owner) for owner in owners.values()})
    return ConflictError(
        f"External id and domain are of different organizations: {' and '.join(ids)}.",
        errors=[FieldProblem(key, f"is of organization {owner}") for key, owner in owners.items()],
        extra={"organization_ids": ids},
    )


def _limit_in(change: OrganizationChange, code: str) -> int | None:
    if change.credit_limit is None:
        return None
    minor, given = change.credit_limit
    if given != code:
        raise InvalidError.of("credit_limit.currency", f"must be the organization's currency, {code}")
    if minor < 0:
        raise InvalidError.of("credit_limit.amount", "must not be negative")
    return minor


async def _create(session: TenantSession, change: OrganizationChange, *, by: Actor) -> Organization | None:
    """Create the organization, or return None where one of its keys has been taken since they were looked up."""
    fields = {name: value for name, value in change.fields.items() if value is not None}
    if "name" not in fields:
        raise InvalidError.of("name", "is needed: there is no organization with this external id or domain")
    await check_owner(session, fields.get("owner_id"))
    await organization_tree.check_move(session, None, fields.get("parent_id"))
    if "currency" not in fields:
        base = select(Tenant.base_currency).where(Tenant.id == session.tenant_id)
        fields["currency"] = change.credit_limit[1] if change.credit_limit else (await session.scalars(base)).one()
    values = {
        **fields,
        "name_key": fields["name"].lower(),
        "credit_limit_minor": _limit_in(change, fields["currency"]),
        "attributes": attributes.merged({}, change.attributes),
    }
    organization = await session.scalar(
        insert(Organization)
        .values(tenant_id=session.tenant_id, id=new_id(), **values)
        .on_conflict_do_nothing()
        .returning(Organization)
    )
    if organization is None:
        return None
    changes = {
        name: (None, text)
        for name in (*fields, "credit_limit_minor")
        if (text := shown(organization, name, getattr(organization, name))) not in {None, False}
    }
    changes |= {f"attributes.{name}": (None, value) for name, value in organization.attributes.items()}
    await _report(session, organization, ORGANIZATION_CREATED, changes, by=by)
    return organization


async def _apply(session: TenantSession, organization: Organization, change: OrganizationChange, *, by: Actor) -> None:
    """Make the changes to a locked organization."""
    wanted: dict[str, Any] = dict(change.fields)
    if "name" in wanted:
        wanted["name_key"] = wanted["name"].lower()
    if change.attributes:
        wanted["attributes"] = attributes.merged(organization.attributes, change.attributes)
    await _check_currency(session, organization, change)
    if change.limits:
        wanted["credit_limit_minor"] = _limit_in(change, wanted.get("currency", organization.currency))
    wanted = {name: value for name, value in wanted.items() if not same(getattr(organization, name), value)}
    if not wanted:
        return
    await check_owner(session, wanted.get("owner_id"))
    if "parent_id" in wanted:
        await organization_tree.check_move(session, organization.id, wanted["parent_id"])
    keys = {key: wanted[key] for key in KEYS if wanted.get(key) is not None}
    owners = await _owners(session, keys)
    if owners:
        raise _taken(owners)
    changes: dict[str, tuple[Any, Any]] = {}
    for name in wanted.keys() - {"attributes", "name_key"}:
        # shown before the currency may change, in which the limit is read
        changes[name] = (shown(organization, name, getattr(organization, name)), None)
    changes |= {
        f"attributes.{key}": (organization.attributes.get(key), wanted["attributes"].get(key))
        for key in sorted(change.attributes)
        if "attributes" in wanted and not same(organization.attributes.get(key), wanted["attributes"].get(key))
    }
    await _write(session, organization, wanted)
    for name in wanted.keys() - {"attributes", "name_key"}:
        changes[name] = (changes[name][0], shown(organization, name, wanted[name]))
    await _report(session, organization, ORGANIZATION_UPDATED, changes, by=by)
    await session.refresh(organization)


async def _write(session: TenantSession, organization: Organization, values: Mapping[str, Any]) -> None:
    try:
        async with session.begin_nested():
            for name, value in values.items():
                setattr(organization, name, value)
                attribute_state.flag_modified(organization, name)  # SQLAlchemy would take true for equal to 1
            organization.updated_at = func.now()
            await session.flush()
    except IntegrityError as error:
        owners = await _owners(session, {key: values[key] for key in KEYS if values.get(key) is not None})
        if not owners:
            raise
        raise _taken(owners) from error  # between the look and the write


def _taken(owners: Mapping[str, UUID]) -> ConflictError:
    return ConflictError(
        f"Another organization has this already: {', '.join(sorted({str(owner) for owner in owners.values()}))}.",
        errors=[FieldProblem(key, f"is of organization {owner}") for key, owner in owners.items()],
        extra={"organization_ids": sorted({str(owner) for owner in owners.values()})},
    )


async def _check_currency(session: TenantSession, organization: Organization, change: OrganizationChange) -> None:
    wanted = change.fields.get("currency", organization.currency)
    if wanted == organization.currency:
        return
    if await session.scalar(
        select(
            exists().where(
                OrganizationEntry.tenant_id == session.tenant_id, OrganizationEntry.organization_id == organization.id
            )
        )
    ):
        raise ConflictError(
            f"The currency stays {organization.currency}: the ledger has entries in it.",
            errors=[FieldProblem("currency", f"is fixed to {organization.currency} by the ledger")],
        )
    if organization.credit_limit_minor is not None and not change.limits:
        raise InvalidError.of("credit_limit", f"must be given in {wanted} too, or lifted by null")


async def _report(
    session: TenantSession, organization: Organization, verb: str, changes: Mapping[str, tuple[Any, Any]], *, by: Actor
) -> None:
    named = {name.removesuffix("_minor"): pair for name, pair in sorted(changes.items())}
    await activity.record(
        session, by=by, subject_type="organization", subject_id=organization.id, type=verb, changes=named
    )
    event = NewEvent(verb, organization.id, subject_type="organization", properties={"fields": sorted(named)})
    await publish(session, [event])
