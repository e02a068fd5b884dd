"""A tenant's campaigns over the API, with the processes that send them: starter of workflows, workers and senders."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from httpx import AsyncClient
from temporalio.client import Client

from core.settings import Settings
from relay.starts import WorkflowStarter
from sender.loop import Sender
from sender.policy import Policy
from services.shared import starts
from tests.eventually import eventually
from tests.factories.campaigning import Campaigning

BRISK: Final = Policy(pauses=(timedelta(seconds=0.05),), unreachable_pause=timedelta(seconds=0.1), poll_seconds=0.05)
"""Waits short enough for a test."""
SHORT_DAY: Final = replace(BRISK, give_up_after=timedelta(seconds=0.5))
"""Gives up after ten tries."""


@dataclass
class Office:
    """One tenant, seen by who uses the API; `desk` looks into the store."""

    client: AsyncClient
    desk: Campaigning
    settings: Settings
    folder: Path
    """A machine's: of senders that share their journals."""

    # What people do

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask for something to be done, and see that it is."""
        answer = await self.client.post(f"/v1{path}", json=body or {}, headers={"Idempotency-Key": uuid4().hex})
        assert answer.is_success, answer.text
        return answer.json()

    async def get(self, path: str) -> dict[str, Any]:
        """Read something."""
        answer = await self.client.get(f"/v1{path}")
        assert answer.is_success, answer.text
        return answer.json()

    async def template(self, **fields: Any) -> str:  # noqa: ANN401 - JSON
        """Make a template for marketing mail; return its id."""
        body = {"key": uuid4().hex, "channel": "email", "subject": "Hello", "body": "<p>Hello</p>"}
        return (await self.post("/templates", body | fields))["id"]

    async def campaign(self, people: Sequence[UUID], **fields: Any) -> str:  # noqa: ANN401 - JSON
        """Make a draft for these people; return its id."""
        segment = await self.post("/segments", {"key": uuid4().hex, "name": "Readers", "kind": "static"})
        for start in range(0, len(people), 1000):
            ids = [str(each) for each in people[start : start + 1000]]
            await self.post(f"/segments/{segment['id']}/members", {"person_ids": ids})
        body: dict[str, Any] = {"name": "Spring", "channel": "email", "audience": {"include": [segment["id"]]}} | fields
        if "template_id" not in body and "variants" not in body:
            body["template_id"] = await self.template()
        return (await self.post("/campaigns", body))["id"]

    async def do(self, campaign: str, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send, schedule, pause, resume or cancel it."""
        return await self.post(f"/campaigns/{campaign}/{verb}", body)

    # What is seen

    async def status(self, campaign: str) -> str:
        """Return where it stands."""
        return (await self.get(f"/campaigns/{campaign}"))["status"]

    async def until(self, campaign: str, status: str) -> None:
        """Return once it stands so."""

        async def stands() -> bool:
            return await self.status(campaign) == status

        await eventually(stands)

    async def report(self, campaign: str) -> dict[str, Any]:
        """Return its report, which adds up."""
        found = await self.get(f"/campaigns/{campaign}/report")
        counted = sum(found[name] for name in ("queued", "sent", "failed", "in_doubt"))
        assert found["audience"] == counted + sum(found["excluded"].values())
        return found

    async def counts(self, campaign: str) -> dict[str, int]:
        """Return how many stand where, without those nobody stands at."""
        found = await self.report(campaign)
        named = {name: found[name] for name in ("queued", "sent", "failed", "in_doubt")} | found["excluded"]
        return {name: number for name, number in named.items() if number}

    async def told(self) -> dict[UUID, tuple[str, str | None]]:
        """Return status and reason of each message by its person."""
        return {
            person: (message.status, message.reason) for person, (message, _) in (await self.desk.messages()).items()
        }

    async def until_counts(self, campaign: str, **wanted: int) -> None:
        """Return once exactly so many stand there."""

        async def counted() -> bool:
            return await self.counts(campaign) == wanted

        await eventually(counted)

    # What runs

    @asynccontextmanager
    async def sender(
        self, url: str, *, policy: Policy = BRISK, folder: Path | None = None, answers_within: float = 20.0
    ) -> AsyncGenerator[Sender]:
        """Run a sender to this server, whose answers are awaited for `answers_within` seconds."""
        own = {
            "database_url": self.desk.marketing.url,
            "smtp_url": url,
            "smtp_timeout_seconds": answers_within,
            "data_dir": folder or self.folder,
            "mail_dir": self.folder / "mail",
        }
        sender = Sender(self.desk.marketing.database, self.settings.model_copy(update=own), policy=policy)
        async with _running(sender.run):
            yield sender

    @asynccontextmanager
    async def starting(self, count: int = 1) -> AsyncGenerator[None]:
        """Run what starts and wakes workflows."""
        assert self.desk.client is not None
        async with AsyncExitStack() as stack:
            for _ in range(count):
                starter = WorkflowStarter(self.desk.marketing.database, self.desk.client)
                await stack.enter_async_context(_running(starter.run))
            yield

    @asynccontextmanager
    async def running(
        self,
        url: str,
        *,
        each: int = 1,
        policy: Policy = BRISK,
        answers_within: float = 20.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> AsyncGenerator[None]:
        """Run all that it takes, `each` of everything."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.starting(each))
            for number in range(each):
                desk = self.desk if number == 0 else await self._apart()
                await stack.enter_async_context(desk.worker(clock=clock))
                await stack.enter_async_context(self.sender(url, policy=policy, answers_within=answers_within))
            yield

    async def _apart(self) -> Campaigning:
        """Return the desk with a connection of its own: one has one worker of a queue at most."""
        assert self.desk.client is not None
        config = self.desk.client.service_client.config
        client = await Client.connect(
            config.target_host,
            namespace=self.desk.client.namespace,
            data_converter=self.desk.client.data_converter,
        )
        return replace(self.desk, client=client)


@asynccontextmanager
async def _running(work: Callable[[asyncio.Event], Any]) -> AsyncGenerator[None]:
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(stop))
    try:
        yield
    finally:
        stop.set()
        await task


@asynccontextmanager
async def opened(client: AsyncClient, desk: Campaigning, settings: Settings, folder: Path) -> AsyncGenerator[Office]:
    """Open a tenant's office, whose workflows go to the desk's own queue."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(starts, "MARKETING", desk.queue)
        answer = await client.patch("/v1/tenant", json={"postal_address": "Weg 1, Bonn"})
        assert answer.is_success, answer.text
        yield Office(client, desk, settings, folder)


def once(people: Sequence[UUID]) -> Counter[str]:
    """Return what a server counts that has taken one mail for each."""
    return Counter(f"{each}@example.com" for each in people)
