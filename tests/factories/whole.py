"""The whole platform over one database: API, relay, worker of the marketing domain and sender, all as they are run."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes

import worker
from activities import campaigns as campaign_activities
from api.app import create_app
from contracts.campaigns import OCCURRENCE_WORKFLOW, OccurrenceInput
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from integrations.sms.twilio import signature
from relay import cohorts
from relay import process as relay
from sender.loop import Sender
from sender.policy import Policy
from services.shared import starts
from services.tenancy import api_keys, tenants
from tests.api.conftest import serving
from tests.eventually import eventually
from tests.factories.marketing import Marketing
from tests.providers import twilio
from workflows.campaign import SCHEDULED_AT

POLICY = Policy(poll_seconds=0.05)


@dataclass
class Whole:
    """A tenant of the platform, and what its user has: a client of the API."""

    marketing: Marketing
    settings: Settings
    client: AsyncClient
    temporal: Client
    queue: str

    async def call(self, method: str, path: str, body: Any = None) -> Any:  # noqa: ANN401 - JSON
        """Return the answer to a call that must succeed."""
        answer = await self.client.request(method, f"/v1{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def person(self, channels: tuple[str, ...] = (), **fields: Any) -> str:  # noqa: ANN401 - JSON
        """Make a person who is opted in to the topic `general` of these channels; return the id."""
        consent = [{"channel": each, "topic": "general", "status": "opted_in"} for each in channels]
        return (await self.call("POST", "/people", {**fields, "consent": consent}))["id"]

    async def segment(self, people: list[str], key: str = "readers") -> str:
        """Make a static segment of these people; return its id."""
        made = await self.call("POST", "/segments", {"key": key, "name": key, "kind": "static"})
        if people:
            await self.call("POST", f"/segments/{made['id']}/members", {"person_ids": people})
        return made["id"]

    async def template(self, channel: str, body: str, key: str = "hello", **more: Any) -> str:  # noqa: ANN401 - JSON
        """Make a template for marketing on the topic `general`; return its id."""
        said = {"key": key, "channel": channel, "body": body, "topic": "general", "purpose": "marketing"}
        return (await self.call("POST", "/templates", said | more))["id"]

    async def account(self, provider: str, config: dict[str, Any], secret: dict[str, Any]) -> dict[str, Any]:
        """Make an active account."""
        body = {"key": provider, "provider": provider, "config": config, "secret": secret}
        return await self.call("POST", "/channel-accounts", body)

    async def report(self, campaign: str) -> dict[str, Any]:
        """Return a campaign's report."""
        return await self.call("GET", f"/campaigns/{campaign}/report")

    async def finished(self, campaign: str) -> dict[str, Any]:
        """Return the report of a campaign once it has finished."""

        async def ended() -> bool:
            return (await self.call("GET", f"/campaigns/{campaign}"))["status"] == "finished"

        await eventually(ended, seconds=60)
        return await self.report(campaign)

    async def until(self, campaign: str, **figures: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Return the report of a campaign once it has these figures."""

        async def told() -> dict[str, Any] | None:
            report = await self.report(campaign)
            return report if all(report[name] == value for name, value in figures.items()) else None

        return await eventually(told)

    async def a_while_later(self) -> None:
        """Have what was sent be sent a while ago: nobody follows a link at once."""
        async with self.marketing.superuser() as connection:
            ago = "UPDATE message SET sent_at = sent_at - interval '1 minute' WHERE tenant_id = $1"
            await connection.execute(ago, self.marketing.tenant_id)

    async def twilio_says(self, account: dict[str, Any], **form: str) -> None:
        """Report something as Twilio does."""
        url: str = account["webhook_url"]
        signed = {"X-Twilio-Signature": signature(url, form.items(), twilio.TOKEN)}
        path = url.removeprefix(self.settings.public_url)
        assert (await self.client.post(path, data=form, headers=signed)).status_code == 200

    async def occur(self, campaign: str, due: datetime) -> None:
        """Let Temporal's schedule come, for that moment."""
        at = SearchAttributePair(SCHEDULED_AT, due)
        await self.temporal.execute_workflow(
            OCCURRENCE_WORKFLOW,
            OccurrenceInput(tenant_id=self.marketing.tenant_id, campaign_id=UUID(campaign)),
            id=f"{OCCURRENCE_WORKFLOW}/{campaign}/{uuid4()}",
            task_queue=self.queue,
            search_attributes=TypedSearchAttributes([at]),
        )

    @asynccontextmanager
    async def working(
        self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), sending: bool = True
    ) -> AsyncGenerator[None]:
        """Run relay, worker and sender while the block runs; campaigns go by `clock`."""
        database = self.marketing.database
        sender = Sender(database, self.settings, policy=POLICY)
        stop = asyncio.Event()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker, "MARKETING_QUEUE", self.queue)
            timed = campaign_activities.CampaignActivities(database, clock=clock).all()
            others = [each for each in worker.marketing_activities(database, sender) if not _of_campaigns(each)]
            async with worker.marketing_worker(self.temporal, [*others, *timed]), asyncio.TaskGroup() as group:
                group.create_task(relay.run(database, self.temporal, stop, eager=False))
                if sending:
                    group.create_task(sender.run(stop))
                try:
                    yield
                finally:
                    stop.set()


def _of_campaigns(activity: Callable[..., Any]) -> bool:
    return isinstance(getattr(activity, "__self__", None), campaign_activities.CampaignActivities)


@asynccontextmanager
async def whole(url: str, settings: Settings, temporal: Client, folder: Path) -> AsyncGenerator[Whole]:
    """Lend the platform over an empty database, with one tenant."""
    database = Database(url)
    own = settings.model_copy(update={"database_url": url, "data_dir": folder, "mail_dir": folder / "mail"})
    async with database.system() as session:
        tenant_id: UUID = (await tenants.create(session, "shop", "The shop")).id
    async with database.tenant(tenant_id) as session:
        secret = (await api_keys.create(session, "test", ["*"], by=CLI))[1]
    app = create_app(own)
    queue = f"marketing-{uuid4().hex}"
    with pytest.MonkeyPatch.context() as patch:
        # queues are of a Temporal server, which all tests share
        patch.setattr(starts, "MARKETING", queue)
        patch.setattr(cohorts, "MARKETING_QUEUE", queue)
        async with app.router.lifespan_context(app), serving(app, secret) as client:
            yield Whole(Marketing(database, tenant_id, url), own, client, temporal, queue)
    await database.close()
