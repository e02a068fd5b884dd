"""Campaigns made and moved as the platform does it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import delete, select, update
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError
from temporalio.worker import Interceptor, Worker

from activities.campaigns import CampaignActivities
from contracts.campaigns import OCCURRENCE_WORKFLOW, WAKE, WORKFLOW, CampaignInput, OccurrenceInput, Outlook
from core.actor import CLI
from models import Campaign, CampaignRun, Message, MessagePage, Person, Tenant, WorkflowStart
from services.marketing import templates
from services.marketing.campaigns import course, definitions, freezing, runs
from services.marketing.segments import definitions as segments
from services.marketing.segments import membership
from services.marketing.templates import Text
from tests.eventually import eventually
from tests.factories.marketing import Marketing
from workflows.campaign import SCHEDULED_AT, CampaignOccurrenceWorkflow, CampaignWorkflow


def schedule(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a schedule as stored."""
    return {
        "at": None,
        "cron": None,
        "time_zone": "fixed",
        "zone": None,
        "passed_zones": "now",
        "freeze": "start",
        **fields,
    }


@dataclass
class Campaigning:
    """A tenant's campaigns."""

    marketing: Marketing
    client: Client | None = None
    queue: str = ""

    async def segment(self, people: Sequence[UUID], key: str = "readers") -> str:
        """Make a static segment of these."""
        async with self.marketing.session() as session:
            made = await segments.create(
                session, {"key": key, "name": key, "kind": "static", "refresh": "manual"}, by=CLI
            )
            await membership.add(session, made, people, by=CLI)
            return str(made.id)

    async def template(self, key: str = "hello") -> str:
        """Make a template for marketing."""
        text = Text(subject=key, body=f"<p>{key}</p>")
        async with self.marketing.session() as session:
            return str((await templates.create(session, key=key, channel="email", text=text, by=CLI)).template.id)

    async def campaign(self, people: Sequence[UUID], **more: Any) -> UUID:  # noqa: ANN401 - columns
        """Make a draft for these people."""
        fields: dict[str, Any] = {"name": "Spring", "channel": "email"} | more
        fields.setdefault("audience", {"include": [await self.segment(people)], "exclude": []})
        if "variants" not in fields:
            fields["variants"] = [{"template_id": await self.template(), "share": 1}]
        async with self.marketing.session() as session:
            # marketing mail without one is not sent
            lawful = update(Tenant).where(Tenant.id == session.tenant_id, Tenant.postal_address.is_(None))
            await session.execute(lawful.values(postal_address="Weg 1, Bonn"))
            return (await definitions.create(session, fields, by=CLI)).id

    async def do(self, verb: Callable[..., Any], campaign_id: UUID, *args: Any, **more: Any) -> None:  # noqa: ANN401
        """Do a verb of `control`."""
        async with self.marketing.session() as session:
            await verb(session, campaign_id, *args, by=CLI, **more)

    async def runs(self, campaign_id: UUID) -> list[CampaignRun]:
        """Return the runs of a campaign, oldest first."""
        async with self.marketing.session() as session:
            found = await session.scalars(
                select(CampaignRun)
                .where(CampaignRun.tenant_id == session.tenant_id, CampaignRun.campaign_id == campaign_id)
                .order_by(CampaignRun.id)
            )
            return list(found)

    async def run(self, campaign_id: UUID) -> CampaignRun:
        """Return its only run."""
        [run] = await self.runs(campaign_id)
        return run

    async def get(self, campaign_id: UUID) -> Campaign:
        """Return the campaign."""
        async with self.marketing.session() as session:
            return await definitions.get(session, campaign_id)

    async def freeze(self, campaign_id: UUID, *, now: datetime | None = None) -> CampaignRun:
        """Begin the run and queue its audience, as the workflow does; return it."""
        run = await self.run(campaign_id)
        async with self.marketing.session() as session:
            await course.look(session, run.id, now=now)
        done = False
        while not done:
            async with self.marketing.session() as session:
                done = await freezing.page(session, run.id)
        return await self.run(campaign_id)

    async def look(self, campaign_id: UUID, *, now: datetime | None = None) -> str:
        """Return what is to be done next."""
        run = await self.run(campaign_id)
        async with self.marketing.session() as session:
            return (await course.look(session, run.id, now=now)).next

    async def messages(self) -> dict[UUID, tuple[Message, MessagePage | None]]:
        """Return what was queued by person."""
        async with self.marketing.session() as session:
            rows = await session.execute(
                select(Person.id, Message, MessagePage)
                .join(Message, (Message.tenant_id == Person.tenant_id) & (Message.person_id == Person.id))
                .outerjoin(
                    MessagePage, (MessagePage.tenant_id == Message.tenant_id) & (MessagePage.id == Message.page_id)
                )
                .where(Person.tenant_id == session.tenant_id, Message.tenant_id == session.tenant_id)
            )
            return {person: (message, page) for person, message, page in rows}

    async def deliver(self, now: datetime | None = None) -> None:
        """Do what a sender does in the end: every page that may go is sent, by `now` those that are due then."""
        async with self.marketing.session() as session:
            tenant = session.tenant_id
            ready = await session.scalars(
                select(MessagePage.id).where(
                    MessagePage.tenant_id == tenant,
                    MessagePage.held_for.is_(None),
                    MessagePage.finished_at.is_(None),
                    *([] if now is None else [MessagePage.ready_at <= now]),
                )
            )
            pages = ready.all()
            now = now or datetime.now(UTC)
            await session.execute(
                update(Message)
                .where(Message.tenant_id == tenant, Message.page_id.in_(pages), Message.status == "queued")
                .values(status="sent", sent_at=now)
                .execution_options(synchronize_session=False)
            )
            await session.execute(
                update(MessagePage)
                .where(MessagePage.tenant_id == tenant, MessagePage.id.in_(pages))
                .values(finished_at=now)
                .execution_options(synchronize_session=False)
            )

    async def click(self, variant: int) -> None:
        """Have everybody of the sample who was sent this variant click."""
        async with self.marketing.session() as session:
            await session.execute(
                update(Message)
                .where(Message.tenant_id == session.tenant_id, Message.tested.is_(True), Message.variant == variant)
                .values(clicks=1)
                .execution_options(synchronize_session=False)
            )

    async def frozen(self, campaign_id: UUID) -> None:
        """Return when its audience is queued, and where it is not due yet its workflow waits for that."""

        async def done() -> bool:
            return (await self.run(campaign_id)).frozen_at is not None

        await eventually(done)
        if (await self.run(campaign_id)).status == "scheduled":
            await self.idle(campaign_id)

    async def idle(self, campaign_id: UUID) -> None:
        """Return when its workflow waits for a moment: nothing of it is under way in a worker that is stopped."""

        async def waits() -> bool:
            try:
                outlook = await (await self.handle(campaign_id)).query(CampaignWorkflow.progress)
            except RPCError:  # not started yet
                return False
            return isinstance(outlook, Outlook) and outlook.next == "wait" and outlook.at is not None

        await eventually(waits)

    # Temporal

    def worker(
        self,
        *,
        clock: Callable[[], datetime] | None = None,
        cached: int = 100,
        interceptors: Sequence[Interceptor] = (),
    ) -> Worker:
        """Return a worker of campaigns alone."""
        assert self.client is not None
        database = self.marketing.database
        own = CampaignActivities(database) if clock is None else CampaignActivities(database, clock=clock)
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=[CampaignWorkflow, CampaignOccurrenceWorkflow],
            activities=own.all(),
            max_cached_workflows=cached,
            interceptors=interceptors,
        )

    async def owed(self) -> int:
        """Start or tell what is owed, as the relay does; return how many rows that were."""
        assert self.client is not None
        async with self.marketing.session() as session:
            rows = await session.execute(
                delete(WorkflowStart)
                .where(WorkflowStart.tenant_id == session.tenant_id)
                .returning(WorkflowStart.workflow, WorkflowStart.workflow_id, WorkflowStart.input)
            )
            found = [row for row in rows if row.workflow == WORKFLOW]
        for row in found:
            await self.client.start_workflow(
                row.workflow,
                CampaignInput.model_validate(row.input),
                id=row.workflow_id,
                task_queue=self.queue,
                start_signal=WAKE,
            )
        return len(found)

    async def wake(self, campaign_id: UUID) -> None:
        """Have its workflow look again."""
        async with self.marketing.session() as session:
            await runs.wake(session, await self.run(campaign_id))
        await self.owed()

    async def occur(self, campaign_id: UUID, name: str, at: datetime = datetime(2030, 1, 1, 9, tzinfo=UTC)) -> None:
        """Let Temporal's schedule come, for the same moment each time."""
        assert self.client is not None
        due = SearchAttributePair(SCHEDULED_AT, at)
        await self.client.execute_workflow(
            OCCURRENCE_WORKFLOW,
            OccurrenceInput(tenant_id=self.marketing.tenant_id, campaign_id=campaign_id),
            id=f"{OCCURRENCE_WORKFLOW}/{campaign_id}/{name}",
            task_queue=self.queue,
            search_attributes=TypedSearchAttributes([due]),
        )

    async def handle(self, campaign_id: UUID) -> WorkflowHandle[Any, Any]:
        """Return the workflow of its only run."""
        assert self.client is not None
        run = await self.run(campaign_id)
        return self.client.get_workflow_handle(f"campaign/{self.marketing.tenant_id}/{run.id}")


def campaigning(marketing: Marketing, client: Client | None = None) -> Campaigning:
    """Return a tenant's campaigns on a task queue of their own."""
    return Campaigning(marketing, client, f"test-{uuid4().hex}")
