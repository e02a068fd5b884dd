"""People, organizations and what is known of them, many at once."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from api.rest.organization_shapes import OrganizationLinkOut, OrganizationOut
from api.rest.person_shapes import PersonOut
from api.rest.profile_shapes import CustomerOut, EmailEngagementOut
from core.database import TenantSession
from models import Event, Organization
from services.events import history
from services.identity import directory, organization_people, profile, timeline
from services.identity.timeline import Entry
from services.shared.many import by_ids


async def people(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, PersonOut]:
    """Return people by the ids that mean them."""
    return {asked: PersonOut.of(shown) for asked, shown in (await directory.of_many(session, ids)).items()}


async def organizations(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, OrganizationOut]:
    """Return organizations by their ids."""
    return {key: OrganizationOut.of(row) for key, row in (await by_ids(session, Organization, ids)).items()}


async def links_of_people(
    session: TenantSession,
    ids: Sequence[UUID],
    limit: int,
    before: UUID | None,
    current: bool | None,  # noqa: FBT001 - loads take their arguments by place
) -> dict[UUID, list[OrganizationLinkOut]]:
    """Return by person what it is to organizations."""
    found = await organization_people.of_people(session, ids, limit=limit, before=before, current=current)
    return {person_id: [OrganizationLinkOut.of(link) for link in links] for person_id, links in found.items()}


async def links_of_organizations(
    session: TenantSession,
    ids: Sequence[UUID],
    limit: int,
    before: UUID | None,
    current: bool | None,  # noqa: FBT001 - loads take their arguments by place
) -> dict[UUID, list[OrganizationLinkOut]]:
    """Return by organization what people are to it."""
    found = await organization_people.of_organizations(session, ids, limit=limit, before=before, current=current)
    return {
        organization_id: [OrganizationLinkOut.of(link) for link in links] for organization_id, links in found.items()
    }


async def customers(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, CustomerOut]:
    """Return by person what it bought."""
    return {key: CustomerOut.of(bought) for key, bought in (await profile.customers(session, ids)).items()}


async def engagements(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, EmailEngagementOut]:
    """Return by person how it takes our mail."""
    found = await profile.engagements(session, ids)
    return {key: EmailEngagementOut.model_validate(each) for key, each in found.items()}


async def timelines(
    session: TenantSession, ids: Sequence[UUID], limit: int, before: tuple[datetime, UUID] | None
) -> dict[UUID, list[Entry]]:
    """Return by person what happened to it."""
    return await timeline.pages(session, ids, limit, before)


async def events(
    session: TenantSession, ids: Sequence[UUID], limit: int, before: tuple[datetime, UUID] | None, type_: str | None
) -> dict[UUID, list[Event]]:
    """Return by person what it did."""
    return await history.of_people(session, ids, limit, before, type_)
