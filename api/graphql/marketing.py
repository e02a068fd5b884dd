"""Segments, journeys, campaigns and messages."""

from typing import Any

import strawberry

from api.graphql.fields import many, one, some
from api.graphql.loads import crm
from api.graphql.loads import marketing as loads
from api.graphql.loads import people as people_loads
from api.graphql.names import CAMPAIGN, DEAL, ENROLLMENT, JOURNEY, MESSAGE, PERSON
from api.graphql.shapes import called, shaped
from api.paging import encode_cursor
from api.rest import campaign_reports, campaign_shapes, segment_shapes
from api.rest import enrollments as passages
from api.rest import journeys as automations
from api.rest import messages as sent

called(
    {
        campaign_shapes.Audience: "CampaignAudience",
        campaign_shapes.Variant: "CampaignVariant",
        campaign_shapes.Test: "CampaignTest",
        campaign_shapes.Schedule: "CampaignSchedule",
        campaign_shapes.Batches: "CampaignBatches",
        campaign_shapes.Cost: "CampaignCost",
        campaign_shapes.ProgressOut: "CampaignProgress",
        campaign_reports.GroupOut: "CampaignLiftGroup",
        campaign_reports.DifferenceOut: "CampaignLiftDifference",
        campaign_reports.LiftOut: "CampaignLift",
        campaign_reports.VariantFigures: "CampaignVariantFigures",
    }
)


def _by_person(member: segment_shapes.MemberOut) -> str:
    return encode_cursor(member.person_id)


@shaped(segment_shapes.MemberOut)
class SegmentMember:
    """Somebody in a segment."""

    person = one(PERSON, people_loads.people, "person_id", "people:read")


@shaped(segment_shapes.RefreshOut)
class SegmentRefresh:
    """A computation of a segment."""


def _number(root: Any) -> int:  # noqa: ANN401 - a model
    return root.members


@shaped(segment_shapes.SegmentOut, omit=("members",))
class Segment:
    """A named set of people."""

    member_count = strawberry.field(resolver=_number, description="How many are in it now.")

    members = many(
        SegmentMember,
        loads.members,
        "segments:read",
        cursor=_by_person,
        description="Who is in it now, in the order of their ids.",
    )


@shaped(passages.Step)
class EnrollmentStep:
    """A node passed, or the one where somebody stands, without outcome."""


@shaped(passages.Enrollment)
class Enrollment:
    """One passage through a journey."""

    steps = some(EnrollmentStep, loads.steps, "journeys:read", description="Oldest first; the last is where it stands.")
    journey = one(JOURNEY, loads.journeys, "journey_id", "journeys:read")
    person = one(PERSON, people_loads.people, "person_id", "people:read")
    deal = one(DEAL, crm.deals, "deal_id", "deals:read")
    messages = many(MESSAGE, loads.messages_of_enrollments, "messages:read", description="Newest first.")


@shaped(automations.Journey)
class Journey:
    """An automation."""


@shaped(sent.UsedTemplate)
class UsedTemplate:
    """The template a message was made from, as it was then."""


@shaped(sent.Message)
class Message:
    """One thing sent, or deliberately not sent, to one person."""

    person = one(PERSON, people_loads.people, "person_id", "people:read")
    enrollment = one(ENROLLMENT, loads.enrollments, "enrollment_id", "journeys:read")
    campaign = one(CAMPAIGN, loads.campaigns, "campaign_id", "campaigns:read")


@shaped(campaign_shapes.CampaignRunOut)
class CampaignRun:
    """One time that a campaign is sent."""


@shaped(campaign_shapes.CampaignOut)
class Campaign:
    """One send to an audience, with its newest run."""


@shaped(campaign_reports.ReportedLinkOut)
class CampaignLink:
    """How often what leads to one address was followed."""


@shaped(campaign_reports.ReportOut)
class CampaignReport:
    """What came of a campaign."""
