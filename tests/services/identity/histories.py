"""People with a past, written as the parts of the platform that own it would."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import insert

from core.database import TenantSession
from core.ids import new_id
from models import (
    Cohort,
    Deal,
    DealContact,
    Enrollment,
    Event,
    Journey,
    JourneyVersion,
    Message,
    OrderFact,
    Person,
    Pipeline,
    PipelineStage,
    Template,
    TemplateVersion,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def add_people(session: TenantSession, count: int) -> list[UUID]:
    """Add people nothing is known of."""
    ids = [new_id() for _ in range(count)]
    await session.execute(insert(Person), [{"tenant_id": session.tenant_id, "id": person_id} for person_id in ids])
    return ids


async def add_events(
    session: TenantSession, person_id: UUID, types: Sequence[str], *, since: datetime = LONG_AGO
) -> list[UUID]:
    """Add events of these types, a minute apart."""
    ids = [new_id() for _ in types]
    await session.execute(
        insert(Event),
        [
            {
                "tenant_id": session.tenant_id,
                "id": event_id,
                "type": event_type,
                "subject_id": person_id,
                "person_id": person_id,
                "properties": {"number": number},
                "occurred_at": since + timedelta(minutes=number),
            }
            for number, (event_id, event_type) in enumerate(zip(ids, types, strict=True))
        ],
    )
    return ids


async def add_order(
    session: TenantSession, person_id: UUID, key: str, *, minor: int, refunded: int = 0, currency: str = "EUR"
) -> None:
    """Add an order."""
    session.add(
        OrderFact(
            tenant_id=session.tenant_id,
            order_key=key,
            person_id=person_id,
            currency=currency,
            total_minor=minor,
            refunded_minor=refunded,
            placed_at=LONG_AGO,
        )
    )
    await session.flush()


async def add_deal(session: TenantSession, person_id: UUID | None, status: str, *, contact: UUID | None = None) -> UUID:
    """Add a deal of this status, in a pipeline of its own."""
    tenant, pipeline, stage, deal = session.tenant_id, new_id(), new_id(), new_id()
    session.add(Pipeline(tenant_id=tenant, id=pipeline, key=f"p{pipeline}", name="Sales"))
    await session.flush()
    kind = {"key": status, "name": status, "kind": status, "position": 1, "probability": 50}
    session.add(PipelineStage(tenant_id=tenant, id=stage, pipeline_id=pipeline, **kind))
    await session.flush()
    closed = None if status == "open" else LONG_AGO
    place = {"pipeline_id": pipeline, "stage_id": stage, "status": status, "closed_at": closed, "currency": "EUR"}
    session.add(Deal(tenant_id=tenant, id=deal, title="Shelves", person_id=person_id, created_at=LONG_AGO, **place))
    await session.flush()
    if contact is not None:
        session.add(DealContact(tenant_id=tenant, id=new_id(), deal_id=deal, person_id=contact, role="champion"))
        await session.flush()
    return deal


async def add_enrollments(session: TenantSession, person_id: UUID, journey_keys: Sequence[str]) -> list[UUID]:
    """Add a passage through each of these journeys, a minute apart, each journey made anew."""
    tenant = session.tenant_id
    ids: list[UUID] = []
    for number, key in enumerate(journey_keys):
        journey, version, cohort, enrollment = (new_id() for _ in range(4))
        session.add(Journey(tenant_id=tenant, id=journey, key=key, name=key, draft={}))
        await session.flush()
        session.add(
            JourneyVersion(
                tenant_id=tenant, id=version, journey_id=journey, number=1, definition={}, published_by="test"
            )
        )
        await session.flush()
        session.add(Cohort(tenant_id=tenant, id=cohort, journey_id=journey, version_id=version, size=1, source="api"))
        session.add(
            Enrollment(
                tenant_id=tenant,
                id=enrollment,
                journey_id=journey,
                version_id=version,
                cohort_id=cohort,
                slot=0,
                subject_type="person",
                subject_id=person_id,
                person_id=person_id,
                node="start",
                entered_at=LONG_AGO + timedelta(minutes=number),
            )
        )
        await session.flush()
        ids.append(enrollment)
    return ids


async def add_messages(session: TenantSession, person_id: UUID, count: int, *, opens: int = 0, clicks: int = 0) -> None:
    """Add mail of a template of its own, all of it sent."""
    tenant = session.tenant_id
    template, version = new_id(), new_id()
    session.add(Template(tenant_id=tenant, id=template, key=f"t{template.hex}", channel="email"))
    await session.flush()
    session.add(
        TemplateVersion(
            tenant_id=tenant,
            id=version,
            template_id=template,
            number=1,
            body="",
            purpose="marketing",
            topic="general",
            variables=[],
        )
    )
    await session.flush()
    await session.execute(
        insert(Message),
        [
            {
                "tenant_id": tenant,
                "id": new_id(),
                "person_id": person_id,
                "channel": "email",
                "template_version_id": version,
                "dedupe_key": f"test:{template}:{number}",
                "status": "sent",
                "sent_at": LONG_AGO,
                "opens": opens,
                "clicks": clicks,
            }
            for number in range(count)
        ],
    )
