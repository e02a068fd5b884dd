"""Segments, journeys, campaigns and messages, many at once."""

from collections.abc import Collection, Sequence
from uuid import UUID

from api.graphql.loads.newest import Newest, shown
from api.rest.campaign_shapes import CampaignOut, CampaignRunOut
from api.rest.enrollments import Enrollment, Step
from api.rest.journeys import Journey
from api.rest.messages import Message
from api.rest.messages import shape as message_shape
from api.rest.segment_shapes import MemberOut, SegmentOut
from api.rest.segments import shown as segments_shown
from core.database import TenantSession
from models import Campaign, Segment
from models import Enrollment as EnrollmentRow
from models import Journey as JourneyRow
from models import Message as MessageRow
from services.journeys import passages
from services.marketing import messages as message_service
from services.marketing.campaigns import runs
from services.marketing.segments import looking
from services.shared.many import by_ids


async def segments(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, SegmentOut]:
    """Return segments by their ids."""
    rows = await by_ids(session, Segment, ids)
    return {each.id: each for each in await segments_shown(session, list(rows.values()))} if rows else {}


async def segments_of_people(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, list[SegmentOut]]:
    """Return by person the segments that it is in now."""
    return await shown(session, await looking.of_people(session, ids), segments)


async def members(
    session: TenantSession, ids: Sequence[UUID], limit: int, after: UUID | None
) -> dict[UUID, list[MemberOut]]:
    """Return by segment who is in it now."""
    found = await looking.members_of(session, ids, limit, after)
    return {key: [MemberOut.model_validate(each) for each in of_segment] for key, of_segment in found.items()}


async def journeys(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, Journey]:
    """Return journeys by their ids."""
    return {key: Journey.model_validate(row) for key, row in (await by_ids(session, JourneyRow, ids)).items()}


async def enrollments(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, Enrollment]:
    """Return enrollments by their ids."""
    rows = await by_ids(session, EnrollmentRow, ids)
    return {key: Enrollment.model_validate(row) for key, row in rows.items()}


async def steps(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, list[Step]]:
    """Return by enrollment the nodes passed, and where it stands."""
    rows = await by_ids(session, EnrollmentRow, ids)
    found = await passages.steps_of_many(session, list(rows.values()))
    return {key: [Step.model_validate(step) for step in taken] for key, taken in found.items()}


async def campaigns(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, CampaignOut]:
    """Return campaigns by their ids, each with its newest run."""
    rows = await by_ids(session, Campaign, ids)
    last = await runs.last(session, sorted(rows))
    return {
        key: CampaignOut.of(row, CampaignRunOut.of(last[key]) if key in last else None) for key, row in rows.items()
    }


async def messages(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, Message]:
    """Return messages by their ids."""
    return {key: message_shape(each) for key, each in (await message_service.of_many(session, ids)).items()}


async def messages_of_enrollments(
    session: TenantSession, ids: Sequence[UUID], limit: int, before: UUID | None
) -> dict[UUID, list[Message]]:
    """Return by enrollment what was sent for it."""
    return await shown(session, await message_service.of_enrollments(session, ids, limit, before), messages)


messages_of_people = Newest(MessageRow, MessageRow.person_id, messages, (MessageRow.channel, MessageRow.status))
enrollments_of_people = Newest(EnrollmentRow, EnrollmentRow.person_id, enrollments, (EnrollmentRow.status,))
enrollments_of_deals = Newest(EnrollmentRow, EnrollmentRow.subject_id, enrollments, (EnrollmentRow.status,))
