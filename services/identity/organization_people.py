"""What people are to organizations: dated links, which give people their roles.

Whoever changes a link holds its organization against deletion first, then its person, then the link: no two requests
can wait for each other.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, column, exists, not_, or_, select, table

from contracts.events import LINK_UPDATED, PERSON_LINKED, PERSON_UNLINKED
from core.actor import Actor
from core.database import Database, TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Organization, OrganizationPerson, Person, Tenant
from services.events.publish import NewEvent, publish
from services.identity import lifecycle, normalize, people
from services.shared import activity
from services.shared.many import by_parent, members, newest_of

LinkKind = Literal["contact", "employee", "vendor"]

STALE_PAGE: Final = 1_000
"""People whose roles are computed in one transaction when their links begin or end."""

_Links = Select[OrganizationPerson, str, str | None, str | None, str | None, bool]
_CURRENT: Final = table("organization_current_people", column("tenant_id", Uuid), column("id", Uuid))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLink:
    """What a person is to an organization."""

    person_id: UUID
    kind: LinkKind
    title: str | None = None
    is_primary: bool = False
    started_on: date | None = None
    """The first day; None for since ever."""
    ended_on: date | None = None
    """The first day on which it no longer holds; None for ever."""


@dataclass(frozen=True, slots=True)
class Linked:
    """A link with the organization and the person it links."""

    link: OrganizationPerson
    organization_name: str
    first_name: str | None
    last_name: str | None
    email: str | None
    current: bool
    """Whether it holds today, in UTC."""


async def add(session: TenantSession, organization_id: UUID, new: NewLink, *, by: Actor) -> OrganizationPerson:
    """Link a person to an organization; a primary link takes that from the person's other links.

    Raises:
        NotFoundError: no such organization or person in this tenant.
        InvalidError: a value is not acceptable.
        ConflictError: there is a link of this kind already for some of the time.
    """
    title = _title(new.title)
    _check_dates(new.started_on, new.ended_on)
    await _hold(session, organization_id)
    person_id = await _person(session, new.person_id)
    await _check_free(session, organization_id, person_id, new)
    if new.is_primary:
        await _take_primary(session, person_id, by=by)
    link = OrganizationPerson(
        tenant_id=session.tenant_id,
        id=new_id(),
        organization_id=organization_id,
        person_id=person_id,
        kind=new.kind,
        title=title,
        is_primary=new.is_primary,
        started_on=new.started_on,
        ended_on=new.ended_on,
    )
    session.add(link)
    await session.flush()
    await session.refresh(link)
    changes = {name: (None, value) for name, value in _state(link).items() if value not in {None, False}}
    await _report(session, link, PERSON_LINKED, changes, by=by)
    await lifecycle.recompute(session, [person_id])
    return link


async def update(
    session: TenantSession, organization_id: UUID, link_id: UUID, fields: Mapping[str, Any], *, by: Actor
) -> OrganizationPerson:
    """Change `title`, `is_primary`, `started_on` or `ended_on` of a link; return it.

    Raises:
        NotFoundError: no such link of this organization.
        InvalidError: a value is not acceptable.
    """
    link = await _locked(session, organization_id, link_id)
    wanted = dict(fields)
    if "title" in wanted:
        wanted["title"] = _title(wanted["title"])
    _check_dates(wanted.get("started_on", link.started_on), wanted.get("ended_on", link.ended_on))
    before = _state(link)
    if wanted.get("is_primary") and not link.is_primary:
        await _take_primary(session, link.person_id, by=by)
    elif link.is_primary and wanted.get("is_primary", True) and link.ended_on is not None:
        # Reopened, or still open for a while: another may have become the primary one since it was to end.
        await _take_primary(session, link.person_id, by=by, but=link.id)
    for name, value in wanted.items():
        setattr(link, name, value)
    after = _state(link)
    changes = {name: (before[name], after[name]) for name in after if before[name] != after[name]}
    if changes:
        await session.flush()
        await _report(session, link, LINK_UPDATED, changes, by=by)
        await lifecycle.recompute(session, [link.person_id])
    return link


async def remove(session: TenantSession, organization_id: UUID, link_id: UUID, *, by: Actor) -> None:
    """Delete a link, as if it had never been; to keep that it was, give it an end instead.

    Raises:
        NotFoundError: no such link of this organization.
    """
    link = await _locked(session, organization_id, link_id)
    changes = {name: (value, None) for name, value in _state(link).items() if value not in {None, False}}
    await session.delete(link)
    await session.flush()
    await _report(session, link, PERSON_UNLINKED, changes, by=by)
    await lifecycle.recompute(session, [link.person_id])


async def of_organization(
    session: TenantSession, organization_id: UUID, *, current: bool | None, limit: int, before: UUID | None
) -> list[Linked]:
    """Return up to `limit` links of an organization, newest first, those made before `before` only."""
    return await _page(
        session,
        _all(session).where(OrganizationPerson.organization_id == organization_id),
        current=current,
        limit=limit,
        before=before,
    )


async def of_person(
    session: TenantSession, person_id: UUID, *, current: bool | None, limit: int, before: UUID | None
) -> list[Linked]:
    """Return up to `limit` links of a person, newest first, those made before `before` only."""
    return await _page(
        session,
        _all(session).where(OrganizationPerson.person_id == person_id),
        current=current,
        limit=limit,
        before=before,
    )


async def of_organizations(
    session: TenantSession, organization_ids: Collection[UUID], *, limit: int, before: UUID | None, current: bool | None
) -> dict[UUID, list[Linked]]:
    """Return by organization up to `limit` links of each, as `of_organization` does."""
    where = () if current is None else (_is_current(session) if current else not_(_is_current(session)),)
    ids = await newest_of(
        session,
        OrganizationPerson,
        OrganizationPerson.organization_id,
        organization_ids,
        limit=limit,
        before=before,
        where=where,
    )
    return await _shown(session, ids)


async def of_people(
    session: TenantSession, person_ids: Collection[UUID], *, limit: int, before: UUID | None, current: bool | None
) -> dict[UUID, list[Linked]]:
    """Return by person up to `limit` links of each, as `of_person` does."""
    where = () if current is None else (_is_current(session) if current else not_(_is_current(session)),)
    ids = await newest_of(
        session,
        OrganizationPerson,
        OrganizationPerson.person_id,
        person_ids,
        limit=limit,
        before=before,
        where=where,
    )
    return await _shown(session, ids)


async def show(session: TenantSession, link: OrganizationPerson) -> Linked:
    """Return the link with what it links."""
    (linked,) = await _page(
        session, _all(session).where(OrganizationPerson.id == link.id), current=None, limit=1, before=None
    )
    return linked


async def follow_dates(database: Database) -> int:
    """Compute the roles anew of everybody, in all tenants, whose links have begun or ended; return how many."""
    async with database.system() as system:
        tenants: Sequence[UUID] = (await system.scalars(select(Tenant.id).order_by(Tenant.id))).all()
    count = 0
    for tenant_id in tenants:
        page = STALE_PAGE
        while page == STALE_PAGE:
            async with database.tenant(tenant_id) as session:
                stale = await lifecycle.of_dated_links(session, limit=STALE_PAGE)
                await lifecycle.recompute(session, stale)
            page = len(stale)
            count += page
    return count


def _title(title: str | None) -> str | None:
    return None if title is None else normalize.line(title, "title")


def _check_dates(started_on: date | None, ended_on: date | None) -> None:
    if started_on is not None and ended_on is not None and ended_on < started_on:
        raise InvalidError.of("ended_on", "must not be before started_on")


async def _hold(session: TenantSession, organization_id: UUID) -> None:
    organization = await session.get(
        Organization, (session.tenant_id, organization_id), with_for_update={"read": True, "key_share": True}
    )
    if organization is None:
        raise NotFoundError("No such organization.")


async def _person(session: TenantSession, person_id: UUID) -> UUID:
    """Return the id of the person, held against other changes."""
    try:
        found = (await people.get(session, person_id)).id
        if found in await lifecycle.lock(session, [found]):
            return found
    except NotFoundError:
        pass
    raise NotFoundError("No such person.", errors=[FieldProblem("person_id", "there is no such person")])


async def _locked(session: TenantSession, organization_id: UUID, link_id: UUID) -> OrganizationPerson:
    """Return the link as it is now, held with its organization and its person."""
    await _hold(session, organization_id)
    wanted = select(OrganizationPerson).where(
        OrganizationPerson.tenant_id == session.tenant_id,
        OrganizationPerson.organization_id == organization_id,
        OrganizationPerson.id == link_id,
    )
    link = await session.scalar(wanted)
    if link is not None:
        await lifecycle.lock(session, [link.person_id])
        link = await session.scalar(wanted.with_for_update().execution_options(populate_existing=True))
    if link is None:
        raise NotFoundError("No such link of this organization.")
    return link


async def _check_free(session: TenantSession, organization_id: UUID, person_id: UUID, new: NewLink) -> None:
    other = OrganizationPerson
    statement = select(other.id).where(
        other.tenant_id == session.tenant_id,
        other.person_id == person_id,
        other.organization_id == organization_id,
        other.kind == new.kind,
    )
    if new.started_on is not None:
        statement = statement.where(or_(other.ended_on.is_(None), other.ended_on > new.started_on))
    if new.ended_on is not None:
        statement = statement.where(or_(other.started_on.is_(None), other.started_on < new.ended_on))
    found = await session.scalar(statement.limit(1))
    if found is not None:
        raise ConflictError(
            f"The person is linked to this organization as {new.kind} already, for some of that time.",
            errors=[FieldProblem("kind", f"is that of link {found}")],
            extra={"link_id": str(found)},
        )


async def _take_primary(session: TenantSession, person_id: UUID, *, by: Actor, but: UUID | None = None) -> None:
    """Have no link of the person, which is held, be the primary one."""
    primary = await session.scalars(
        select(OrganizationPerson).where(
            OrganizationPerson.tenant_id == session.tenant_id,
            OrganizationPerson.person_id == person_id,
            OrganizationPerson.is_primary,
        )
    )
    for link in [link for link in primary.all() if link.id != but]:  # one, or none
        link.is_primary = False
        await session.flush()
        await _report(session, link, LINK_UPDATED, {"is_primary": (True, False)}, by=by)


def _is_current(session: TenantSession) -> ColumnElement[bool]:
    return exists().where(_CURRENT.c.tenant_id == session.tenant_id, _CURRENT.c.id == OrganizationPerson.id)


def _all(session: TenantSession) -> _Links:
    return (
        select(
            OrganizationPerson,
            Organization.name,
            Person.first_name,
            Person.last_name,
            Person.email,
            _is_current(session).label("current"),
        )
        .join(
            Organization,
            (Organization.tenant_id == OrganizationPerson.tenant_id)
            & (Organization.id == OrganizationPerson.organization_id),
        )
        .join(Person, (Person.tenant_id == OrganizationPerson.tenant_id) & (Person.id == OrganizationPerson.person_id))
        .where(
            OrganizationPerson.tenant_id == session.tenant_id,
            Organization.tenant_id == session.tenant_id,
            Person.tenant_id == session.tenant_id,
        )
    )


async def _shown(session: TenantSession, ids: Mapping[UUID, Sequence[UUID]]) -> dict[UUID, list[Linked]]:
    rows = await session.execute(_all(session).where(OrganizationPerson.id.in_(members(ids))))
    return by_parent(ids, {row[0].id: Linked(*row) for row in rows})


async def _page(
    session: TenantSession,
    statement: _Links,
    *,
    current: bool | None,
    limit: int,
    before: UUID | None,
) -> list[Linked]:
    if current is not None:
        statement = statement.where(_is_current(session) if current else not_(_is_current(session)))
    if before is not None:
        statement = statement.where(OrganizationPerson.id < before)
    rows = await session.execute(statement.order_by(OrganizationPerson.id.desc()).limit(limit))
    return [Linked(*row) for row in rows]


def _state(link: OrganizationPerson) -> dict[str, Any]:
    """Return what the log shows of a link."""
    return {
        "person_id": str(link.person_id),
        "kind": link.kind,
        "title": link.title,
        "is_primary": link.is_primary,
        "started_on": link.started_on and link.started_on.isoformat(),
        "ended_on": link.ended_on and link.ended_on.isoformat(),
    }


async def _report(
    session: TenantSession, link: OrganizationPerson, verb: str, changes: Mapping[str, tuple[Any, Any]], *, by: Actor
) -> None:
    """Log it with both: each one's history tells of the other."""
    person_side = {name: pair for name, pair in changes.items() if name != "person_id"}
    await activity.record_all(
        session,
        [
            activity.NewActivity(
                "organization", link.organization_id, verb, {"link_id": (str(link.id), str(link.id)), **changes}
            ),
            activity.NewActivity(
                "person",
                link.person_id,
                verb,
                {"organization_id": (str(link.organization_id), str(link.organization_id)), **person_side},
            ),
        ],
        by=by,
    )
    event = NewEvent(
        verb,
        link.organization_id,
        subject_type="organization",
        person_id=link.person_id,
        properties={"link_id": str(link.id), "kind": link.kind, "fields": sorted(changes)},
    )
    await publish(session, [event])
