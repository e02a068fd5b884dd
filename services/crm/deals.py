"""Deals: made, changed and deleted, one as thousands. Where a deal stands is changed by `services.crm.moving`.

Locks are taken in this order: rates, pipelines, deals, organizations, people; each kind by id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete

from contracts.events import DEAL_CREATED, DEAL_DELETED, DEAL_UPDATED
from core import currency
from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError, NotFoundError, PlatformError
from core.ids import new_ids
from core.json_text import as_text
from models import Deal
from services.crm import deal_rows, rates, requirements, stages, telling
from services.crm.applying import Changed, Judged, judge, stale, taken, write_fields
from services.crm.deal_fields import Contact, DealChange, NewDeal, merged, total_of
from services.crm.rates import Amount
from services.crm.requirements import Beside
from services.crm.stages import Stage, Stages
from services.events.publish import AlikeEvents, publish, publish_alike
from services.identity import lifecycle
from services.objects import associations
from services.shared import activity
from services.shared.activity import NewActivity

_EMPTY: Final[telling.Row] = {"competitors": [], "attributes": {}}


@dataclass(frozen=True, slots=True)
class Created:
    """What became of deals to make."""

    ids: list[UUID | None]
    """In the order given; None for one that was refused. One with a source key used before is the deal made then."""
    refused: dict[int, PlatformError]
    """Why, by place in the order given."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A deal ready to be written."""

    number: int
    row: deal_rows.Values
    new: NewDeal
    stage: Stage
    contacts: list[Contact]


@dataclass(frozen=True, slots=True)
class _Known:
    """What there is of what new deals name."""

    stages: Stages
    people: Mapping[UUID, UUID]
    organizations: set[UUID]
    owners: set[UUID]
    taken: Mapping[str, UUID]
    base: str


async def create(session: TenantSession, deal: NewDeal, *, by: Actor) -> UUID:
    """Make a deal; return its id.

    Raises:
        InvalidError: a value is not acceptable, or the stage requires another.
        ConflictError: the external id is another deal's.
    """
    created = await create_many(session, [deal], by=by)
    if created.refused:
        raise created.refused[0]
    (deal_id,) = created.ids
    if deal_id is None:
        raise AssertionError("neither made nor refused")
    return deal_id


async def create_many(session: TenantSession, deals: Sequence[NewDeal], *, by: Actor, live: bool = True) -> Created:
    """Make deals, in as many statements as one takes; those that cannot be are refused, each by itself.

    Without `live` they are old: nothing starts because of them.
    """
    created = Created([None] * len(deals), {})
    base = await rates.hold(session)
    before = await deal_rows.source_keys(session, deal_rows.given(deal.source_key for deal in deals))
    wanted: dict[int, NewDeal] = {}
    for number, deal in enumerate(deals):
        if deal.source_key in before:
            created.ids[number] = before[deal.source_key]
            continue
        try:
            wanted[number] = deal.normalized()
        except InvalidError as error:
            created.refused[number] = error
    known = await _known(session, list(wanted.values()), base)
    made: list[_Made] = []
    for (number, deal), deal_id in zip(wanted.items(), new_ids(len(wanted)), strict=True):
        try:
            made.append(_make(number, deal, deal_id, known))
        except PlatformError as error:
            created.refused[number] = error
    made = await _valued(session, made, base, created)
    written = await _write(session, made, by=by, live=live)
    for one in made:
        if one.row["id"] in written:
            created.ids[one.number] = one.row["id"]
    await _settle(session, [one for one in made if one.row["id"] not in written], created)
    return created


async def _known(session: TenantSession, deals: Sequence[NewDeal], base: str) -> _Known:
    primary = deal_rows.given(deal.person_id for deal in deals)
    people = primary | {contact.person_id for deal in deals for contact in deal.contacts}
    return _Known(
        stages=await stages.hold(session, {deal.pipeline_id for deal in deals}),
        organizations=await deal_rows.organizations(session, deal_rows.given(deal.organization_id for deal in deals)),
        owners=await deal_rows.owners(session, deal_rows.given(deal.owner_id for deal in deals)),
        taken=await deal_rows.external_ids(session, deal_rows.given(deal.external_id for deal in deals)),
        people=await deal_rows.people(session, people),
        base=base,
    )


def _make(number: int, deal: NewDeal, deal_id: UUID, known: _Known) -> _Made:
    """Return the deal's row; `base_minor` is still missing.

    Raises:
        InvalidError: it names what there is not, or lacks what its stage requires.
        ConflictError: the external id is another's.
    """
    stage = known.stages.chosen(deal.pipeline_id, deal.stage_id)
    owner = known.taken.get(deal.external_id or "")
    if owner is not None:
        raise taken(owner)
    _check_names(deal, known)
    if stage.kind != "lost" and deal.lost_reason is not None:
        raise InvalidError.of("lost_reason", "is for lost deals alone")
    if not stage.closed and deal.closed_at is not None:
        raise InvalidError.of("closed_at", "is for won and lost deals alone")
    recurring = deal.recurring
    row: deal_rows.Values = {
        "id": deal_id,
        "title": deal.title,
        "pipeline_id": stage.pipeline_id,
        "stage_id": stage.id,
        "status": stage.kind,
        "person_id": None if deal.person_id is None else known.people[deal.person_id],
        "organization_id": deal.organization_id,
        "owner_id": deal.owner_id,
        "amount_minor": total_of(deal.lines) if deal.amount_minor is None else deal.amount_minor,
        "currency": deal.currency or known.base,
        "recurring_minor": None,
        "recurring_interval": None if recurring is None else recurring.interval,
        "recurring_term_months": None if recurring is None else recurring.term_months,
        "probability": deal.probability,
        "close_date": deal.close_date,
        "lost_reason": deal.lost_reason,
        "competitors": list(deal.competitors),
        "attributes": merged({}, deal.attributes),
        "source": deal.source,
        "external_id": deal.external_id,
        "source_key": deal.source_key,
        "created_at": deal.created_at,
        "closed_at": deal.closed_at,
    }
    if recurring is not None:
        row["recurring_minor"] = recurring.minor
        if recurring.minor is None:
            row["recurring_minor"] = total_of(deal.lines, recurring=True) or _needs_amount()
    contacts = {known.people[contact.person_id]: contact.role for contact in deal.contacts}
    contacts.pop(row["person_id"], None)
    problem = requirements.refusal(stage, row, Beside(products=bool(deal.lines), contacts=bool(contacts)))
    if problem is not None:
        raise problem
    return _Made(
        number, row, deal, stage, [Contact(person_id=person_id, role=role) for person_id, role in contacts.items()]
    )


def _needs_amount() -> int:
    raise InvalidError.of("recurring.amount", "is needed where no product is recurring")


def _check_names(deal: NewDeal, known: _Known) -> None:
    problems: list[FieldProblem] = []
    if deal.person_id is not None and deal.person_id not in known.people:
        problems.append(FieldProblem("primary_person_id", "there is no such person"))
    problems += [
        FieldProblem(f"contacts.{number}.person_id", "there is no such person")
        for number, contact in enumerate(deal.contacts)
        if contact.person_id not in known.people
    ]
    if deal.organization_id is not None and deal.organization_id not in known.organizations:
        problems.append(FieldProblem("organization_id", "there is no such organization"))
    if deal.owner_id is not None and deal.owner_id not in known.owners:
        problems.append(FieldProblem("owner_id", "there is no such user"))
    if problems:
        raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)


async def _valued(session: TenantSession, made: Sequence[_Made], base: str, created: Created) -> list[_Made]:
    """Give the rows their worth in the base currency; refuse those whose currency has no rate."""
    amounts = [
        Amount(
            one.row["amount_minor"],
            one.row["currency"],
            rates.day_of(one.new.closed_at or one.new.created_at) if one.stage.closed else None,
        )
        for one in made
    ]
    good: list[_Made] = []
    for one, worth in zip(made, await rates.values(session, base, amounts), strict=True):
        if isinstance(worth, int):
            one.row["base_minor"] = worth
            good.append(one)
        else:
            created.refused[one.number] = worth
    return good


async def _write(session: TenantSession, made: Sequence[_Made], *, by: Actor, live: bool) -> set[UUID]:
    if not made:
        return set()
    written = await deal_rows.insert_all(session, [one.row for one in made], actor=by.name)
    there = [one for one in made if one.row["id"] in written]
    await deal_rows.write_lines(session, [(one.row["id"], one.new.lines) for one in there])
    contacts = [(one.row["id"], contact) for one in there for contact in one.contacts]
    await deal_rows.write_contacts(session, contacts)
    await activity.record_all(
        session,
        [NewActivity("deal", one.row["id"], DEAL_CREATED, telling.changes(_EMPTY, one.row)) for one in there],
        by=by,
    )
    made_of = [telling.made(one.row, one.stage, at=one.new.created_at, live=live) for one in there]
    await publish(session, telling.in_waves(made_of))
    people = deal_rows.given(one.row["person_id"] for one in there) | {contact.person_id for _, contact in contacts}
    await lifecycle.recompute(session, sorted(people), quiet=() if live else people)
    return written


async def _settle(session: TenantSession, lost: Sequence[_Made], created: Created) -> None:
    """Say what became of deals whose keys were taken meanwhile, or by another of the same call."""
    if not lost:
        return
    same = await deal_rows.source_keys(session, deal_rows.given(one.new.source_key for one in lost))
    others = await deal_rows.external_ids(session, deal_rows.given(one.new.external_id for one in lost))
    for one in lost:
        if one.new.source_key in same:
            created.ids[one.number] = same[one.new.source_key]
        elif one.new.external_id in others:
            created.refused[one.number] = taken(others[one.new.external_id])


async def get(session: TenantSession, deal_id: UUID) -> Deal:
    """Return a deal as it is now.

    Raises:
        NotFoundError: no such deal in this tenant.
    """
    deal = await session.get(Deal, (session.tenant_id, deal_id), populate_existing=True)
    if deal is None:
        raise NotFoundError("No such deal.")
    return deal


async def update(
    session: TenantSession, deal_id: UUID, change: DealChange, *, by: Actor, version: int | None = None
) -> None:
    """Change a deal.

    Raises:
        NotFoundError: no such deal in this tenant.
        InvalidError: a value is not acceptable.
        ConflictError: the external id is another's, or the deal is not in `version` any more.
    """
    versions = {} if version is None else {deal_id: version}
    changed = await update_many(session, {deal_id: change}, by=by, versions=versions)
    if changed.refused:
        raise changed.refused[deal_id]


async def update_many(
    session: TenantSession,
    changes: Mapping[UUID, DealChange],
    *,
    by: Actor,
    versions: Mapping[UUID, int] | None = None,
) -> Changed:
    """Change deals, in as many statements as one takes; those that cannot be are refused, each by itself.

    Args:
        session: of the tenant.
        changes: by the deal's id.
        by: who does it.
        versions: by the deal's id: the change is refused where the deal is in another version by now.
    """
    base = await rates.hold(session)
    judged = await judge(session, changes, base, versions or {})
    if judged.written:
        await write_back(session, judged, by=by)
    return judged.result


async def write_back(session: TenantSession, judged: Judged, *, by: Actor) -> None:
    """Write deals that are held and judged good, log it, and tell of it."""
    written = await write_fields(session, judged)
    if not written:
        return
    await deal_rows.replace_lines(session, [(one.after["id"], one.lines) for one in written if one.lines is not None])
    # whoever became the primary person is no further contact any more
    await deal_rows.drop_primary_contacts(session, [one.after["id"] for one in written if one.people])
    known = await stages.known(session, {one.after["stage_id"] for one in written})
    logged: list[str] = []
    events = AlikeEvents(DEAL_UPDATED, "deal")
    rest_of: dict[object, str] = {}
    for one in written:
        deal = one.after
        fields = telling.changes(one.before, deal)
        if one.lines is not None:
            fields["products"] = (None, len(one.lines))
        logged.append(as_text(fields))
        # whose deal it was is concerned as well
        former = one.before["person_id"] if one.before["person_id"] in one.people else None
        key = (deal["stage_id"], deal["currency"], former, *fields)
        rest = rest_of.get(key)
        if rest is None:
            told: dict[str, Any] = {"fields": sorted(fields)}
            if former is not None:
                told["former_person_id"] = str(former)
            rest = telling.without_amount(telling.event(DEAL_UPDATED, deal, known[deal["stage_id"]], **told))
            rest_of[key] = rest
        amount = currency.from_minor(deal["amount_minor"], deal["currency"])
        events.add(deal["id"], deal["person_id"], telling.with_amount(amount, rest))
    await activity.record_alike(session, "deal", DEAL_UPDATED, events.subjects, logged, by=by)
    await publish_alike(session, events)
    await lifecycle.recompute(session, sorted({person_id for one in written for person_id in one.people}))


async def remove(session: TenantSession, deal_id: UUID, *, by: Actor, version: int | None = None) -> None:
    """Delete a deal with all that is of it alone: its history, contacts, products and tasks; part it from the rest.

    Raises:
        NotFoundError: no such deal in this tenant.
        ConflictError: it is not in `version` any more.
    """
    row = (await deal_rows.locked(session, [deal_id], going=True)).get(deal_id)
    if row is None:
        raise NotFoundError("No such deal.")
    if version is not None and version != row["version"]:
        raise stale(row["version"])
    people: set[Any] = {*(await deal_rows.contacts_of(session, [deal_id])).get(deal_id, ()), row["person_id"]}
    people.discard(None)
    # all at once, and by id: those whom it is linked to as well
    await lifecycle.lock(session, sorted(people | await associations.people_of(session, "deal", deal_id)))
    await associations.unlink_all(session, "deal", deal_id, by=by)
    stage = (await stages.known(session, [row["stage_id"]]))[row["stage_id"]]
    await session.execute(delete(Deal).where(Deal.tenant_id == session.tenant_id, Deal.id == deal_id))
    changes = {name: (was, None) for name, (_, was) in telling.changes(_EMPTY, row).items()}
    await activity.record(session, by=by, subject_type="deal", subject_id=deal_id, type=DEAL_DELETED, changes=changes)
    await publish(session, telling.deleted(row, stage))
    await lifecycle.recompute(session, sorted(people))
