"""What can be asked for first: things by their ids, and the lists that REST has."""

from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import strawberry

from api.graphql.commerce import Cart, Order, Payment, Product, Variant
from api.graphql.crm import Deal, Pipeline, Task
from api.graphql.fields import Info, found, listing, own
from api.graphql.loads import commerce, crm, marketing
from api.graphql.loads import objects as object_loads
from api.graphql.loads import people as people_loads
from api.graphql.marketing import Campaign, CampaignReport, Enrollment, Journey, Message, Segment
from api.graphql.objects import ObjectDefinition, Record
from api.graphql.organizations import Organization
from api.graphql.people import Person
from api.paging import Page
from api.rest import (
    campaigns,
    carts,
    deals,
    journeys,
    messages,
    orders,
    organizations,
    payments,
    products,
    segments,
    tasks,
)
from api.rest import objects as definitions
from api.rest import people as people_route
from api.rest.campaign_reports import ReportOut, answer
from api.rest.journeys import Journey as JourneyOut
from api.rest.journeys import list_enrollments
from api.rest.person_shapes import PersonOut
from api.rest.pipelines import PipelineOut
from api.rest.pipelines import index as list_pipelines
from api.rest.segment_shapes import SegmentOut
from core.database import TenantSession
from core.errors import NotFoundError
from services.journeys import journeys as journey_service
from services.marketing.outcomes import report
from services.marketing.segments import definitions as segment_service

REPORT_COST: Final = 200
"""A report counts each message of a campaign."""


async def _people(
    session: TenantSession,
    *,
    limit: int,
    cursor: str | None,
    role: str | None,
    stage: str | None,
    q: str | None,
    **identifiers: str | None,
) -> Page[PersonOut]:
    wanted = people_route.filter_of(identifiers, role=role, stage=stage, q=q)
    return await people_route.page(session, wanted, limit=limit, cursor=cursor)


async def _read(info: Info, work: Callable[[TenantSession], Awaitable[Any]]) -> Any:  # noqa: ANN401 - a model
    """Return what is read, null where there is no such thing."""
    try:
        return await info.context.read(work)
    except NotFoundError:
        return None


async def _segment(info: Info, key: str) -> SegmentOut | None:
    info.context.principal.require("segments:read")

    async def read(session: TenantSession) -> SegmentOut:
        return (await segments.shown(session, [await segment_service.find(session, key)]))[0]

    return await _read(info, read)


async def _journey(info: Info, key: str) -> JourneyOut | None:
    info.context.principal.require("journeys:read")

    async def read(session: TenantSession) -> JourneyOut:
        return JourneyOut.model_validate(await journey_service.find(session, key))

    return await _read(info, read)


async def _report(info: Info, campaign_id: UUID, occurrence: str | None = strawberry.UNSET) -> ReportOut | None:
    info.context.principal.require("campaigns:read")

    async def read(session: TenantSession) -> ReportOut:
        return answer(await report.of(session, campaign_id, occurrence=occurrence or None))

    return await _read(info, read)


async def _pipelines(info: Info) -> list[PipelineOut]:
    info.context.principal.require("pipelines:read")

    async def read(session: TenantSession) -> list[PipelineOut]:
        return (await list_pipelines(session)).items

    return await info.context.read(read)


@strawberry.type(description="Where every query begins.")
class Query:
    """Where every query begins."""

    people = listing(
        Person,
        people_route.find,
        "people:read",
        called="Person",
        run=_people,
        description="Newest first.",
    )
    person = found(
        Person, people_loads.people, "people:read", description="By its id, or that of somebody merged into it."
    )
    organizations = listing(
        Organization, organizations.find, "organizations:read", called="Organization", description="Newest first."
    )
    organization = found(Organization, people_loads.organizations, "organizations:read")

    pipelines = own(_pipelines, list[Pipeline], description="All of them.")
    pipeline = found(Pipeline, crm.pipelines, "pipelines:read")
    deals = listing(Deal, deals.find, "deals:read", called="Deals", description="Newest first.")
    deal = found(Deal, crm.deals, "deals:read")
    tasks = listing(
        Task,
        tasks.find,
        "tasks:read",
        called="TaskList",
        cursor=None,
        description="Open ones: the most urgent first. Others: newest first.",
    )
    task = found(Task, crm.tasks, "tasks:read")

    segments = listing(Segment, segments.find, "segments:read", called="Segments", description="Oldest first.")
    segment = own(_segment, Segment, description="By its key, or its id.")
    journeys = listing(Journey, journeys.index, "journeys:read", called="Journeys", description="Newest first.")
    journey = own(_journey, Journey, description="By its key, or its id.")
    enrollments = listing(
        Enrollment,
        list_enrollments,
        "journeys:read",
        called="Enrollments",
        cursor=None,
        description="Those of a journey, by its key or its id, in the order of entry.",
    )
    enrollment = found(Enrollment, marketing.enrollments, "journeys:read")
    campaigns = listing(Campaign, campaigns.find, "campaigns:read", called="Campaigns", description="Newest first.")
    campaign = found(Campaign, marketing.campaigns, "campaigns:read")
    campaign_report = own(
        _report,
        CampaignReport,
        description="What came of a campaign, or of one occurrence, as it stands now.",
        cost=REPORT_COST,
    )
    messages = listing(
        Message,
        messages.index,
        "messages:read",
        called="Messages",
        cursor=None,
        description="Newest first; a campaign's in an order of their own.",
    )
    message = found(Message, marketing.messages, "messages:read")

    products = listing(Product, products.find, "products:read", called="Products", description="Newest first.")
    product = found(Product, commerce.products, "products:read")
    variant = found(Variant, commerce.variants, "products:read")
    carts = listing(Cart, carts.find, "carts:read", called="Carts", description="Newest first.")
    cart = found(Cart, commerce.carts, "carts:read")
    orders = listing(Order, orders.find, "orders:read", called="Orders", description="Newest first.")
    order = found(Order, commerce.orders, "orders:read")
    payments = listing(Payment, payments.find, "payments:read", called="Payments", description="The last first.")
    payment = found(Payment, commerce.payments, "payments:read")

    objects = listing(
        ObjectDefinition,
        definitions.find,
        "objects:read",
        called="Objects",
        description="Kinds of records, oldest first.",
    )
    record = found(Record, object_loads.records, "objects:read", description="Of whatever object.")
