"""Who has a part in a deal beside its primary person."""

from uuid import UUID

from sqlalchemy import delete, func, select, update

from contracts.events import DEAL_CONTACT_ADDED, DEAL_CONTACT_REMOVED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from models import Deal, DealContact
from services.crm import deal_rows, requirements, stages, telling
from services.crm.deal_fields import MAX_CONTACTS, Contact, role_of
from services.crm.deal_rows import Values
from services.crm.requirements import Beside
from services.events.publish import NewEvent, publish
from services.identity import aliases, lifecycle
from services.shared import activity


async def add(session: TenantSession, deal_id: UUID, contact: Contact, *, by: Actor) -> tuple[UUID, bool]:
    """Give a person a part in a deal, or another role; return whom the id means, and whether the contact is new.

    Raises:
        NotFoundError: no such deal in this tenant.
        InvalidError: there is no such person, or the role is not acceptable.
        ConflictError: it is the primary person, or the deal has as many contacts as it can.
    """
    role = role_of(contact.role)
    row = await _locked(session, deal_id)
    person_id = (await deal_rows.people(session, [contact.person_id])).get(contact.person_id)
    if person_id is None:
        raise InvalidError.of("person_id", "there is no such person")
    if person_id == row["person_id"]:
        raise ConflictError("The person is the deal's primary one.")
    of_deal = {
        found.person_id: found.role
        for found in await session.execute(
            select(DealContact.person_id, DealContact.role).where(
                DealContact.tenant_id == session.tenant_id, DealContact.deal_id == deal_id
            )
        )
    }
    if person_id not in of_deal and len(of_deal) >= MAX_CONTACTS:
        raise ConflictError(f"A deal has at most {MAX_CONTACTS} contacts.")
    if person_id not in of_deal:
        await deal_rows.write_contacts(session, [(deal_id, Contact(person_id=person_id, role=role))])
    elif of_deal[person_id] == role:
        return person_id, False
    else:
        await session.execute(
            update(DealContact)
            .where(
                DealContact.tenant_id == session.tenant_id,
                DealContact.deal_id == deal_id,
                DealContact.person_id == person_id,
            )
            .values(role=role)
        )
    changes = {"person_id": (None, str(person_id)), "role": (of_deal.get(person_id), role)}
    await _report(session, row, DEAL_CONTACT_ADDED, person_id, changes, by=by)
    return person_id, person_id not in of_deal


async def remove(session: TenantSession, deal_id: UUID, person_id: UUID, *, by: Actor) -> None:
    """Take a person's part in a deal away.

    Raises:
        NotFoundError: no such deal in this tenant, or the person is no contact of it.
        InvalidError: it is the last one, and the stage that the deal stands in requires contacts.
    """
    row = await _locked(session, deal_id)
    person_id = await aliases.living(session, person_id)
    await lifecycle.lock(session, [person_id])
    gone = (
        await session.execute(
            delete(DealContact)
            .where(
                DealContact.tenant_id == session.tenant_id,
                DealContact.deal_id == deal_id,
                DealContact.person_id == person_id,
            )
            .returning(DealContact.role)
        )
    ).all()
    if not gone:
        raise NotFoundError("The person is no contact of the deal.")
    stage = (await stages.known(session, [row["stage_id"]]))[row["stage_id"]]
    left = bool(await deal_rows.contacts_of(session, [deal_id]))
    problem = requirements.emptied(stage, (row, Beside(contacts=True)), (row, Beside(contacts=left)))
    if problem is not None:
        raise problem
    changes = {"person_id": (str(person_id), None), "role": (gone[0].role, None)}
    await _report(session, row, DEAL_CONTACT_REMOVED, person_id, changes, by=by)


async def _locked(session: TenantSession, deal_id: UUID) -> Values:
    row = (await deal_rows.locked(session, [deal_id])).get(deal_id)
    if row is None:
        raise NotFoundError("No such deal.")
    return row


async def _report(
    session: TenantSession, row: Values, verb: str, person_id: UUID, changes: activity.Changes, *, by: Actor
) -> None:
    """Log and publish a changed contact, as of its person; the deal is in another version from now on."""
    await session.execute(
        update(Deal)
        .where(Deal.tenant_id == session.tenant_id, Deal.id == row["id"])
        .values(version=Deal.version + 1, touched_at=func.now(), updated_at=func.now())
    )
    await activity.record(session, by=by, subject_type="deal", subject_id=row["id"], type=verb, changes=changes)
    stage = (await stages.known(session, [row["stage_id"]]))[row["stage_id"]]
    event: NewEvent = telling.event(verb, row | {"person_id": person_id}, stage)
    await publish(session, [event])
    await lifecycle.recompute(session, [person_id])
