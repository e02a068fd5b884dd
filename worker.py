"""The worker process: Temporal workflows and activities; beside them the relay, the starter of cohorts and a sender.

Any number of copies may run. SIGTERM and SIGINT end it cleanly; `kill -9` loses nothing, because all it knows is in
Postgres and Temporal.
"""

import argparse
import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import uvloop
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.attribution import AttributionActivities
from activities.campaigns import CampaignActivities
from activities.checkout import CheckoutActivities
from activities.duplicates import DuplicateActivities
from activities.erasure import ErasureActivities
from activities.geocoding import GeocodingActivities
from activities.journey_entries import JourneyEntryActivities
from activities.journey_migration import MigrationActivities
from activities.journeys import JourneyActivities
from activities.people_import import ImportActivities
from activities.scores import ScoreActivities
from activities.segments import SegmentActivities
from activities.simulations import SimulationActivities
from activities.webhooks import WebhookActivities
from core import exporting, logging, memory
from core.database import Database
from core.domains import DOMAINS, Domain
from core.presence import present
from core.settings import Settings, settings
from core.temporal import COMMERCE_QUEUE, CRM_QUEUE, DEPLOYMENT, IDENTITY_QUEUE, MARKETING_QUEUE, WEBHOOK_QUEUE, connect
from integrations import outward
from integrations.geocoding.nominatim import NominatimGeocoder
from integrations.geocoding.offline import OfflineGeocoder
from integrations.geocoding.port import Geocoder
from relay import process as relay
from relay.figures import Figures
from sender.loop import Sender
from services.commerce import product_import
from services.commerce.gateways import Gateways
from services.crm import deal_import, journey_nodes
from services.marketing import journey_sends
from workflows.attribution import RecomputeAttributionWorkflow
from workflows.campaign import CampaignOccurrenceWorkflow, CampaignWorkflow
from workflows.checkout import CheckoutWorkflow
from workflows.deal_stage import DealStageWorkflow
from workflows.duplicates import FindDuplicatesWorkflow
from workflows.erasure import ErasureWorkflow
from workflows.geocode import GeocodeWorkflow
from workflows.journey import JourneyWorkflow
from workflows.journey_entry import JourneyByCronWorkflow, JourneyByDateWorkflow
from workflows.journey_migration import JourneyMigrationWorkflow
from workflows.journey_simulation import JourneySimulationWorkflow
from workflows.people_import import PeopleImportCheckWorkflow, PeopleImportWorkflow
from workflows.scores import RecomputeScoresWorkflow
from workflows.segment_refresh import SegmentRefreshWorkflow
from workflows.webhook import WebhookWorkflow

log = logging.get_logger(__name__)

STEPS_AT_ONCE = 4
"""Steps of large cohorts that a process has Postgres do at once: with more they stand in each other's way there."""
CHECKOUTS_AT_ONCE = 64
"""Steps of checkouts that a process has at work at once: most of the time they wait for a gateway."""
ENDPOINTS_AT_ONCE = 50
"""Endpoints that a process posts to at once: most of the time they wait for an answer."""
GRACE = timedelta(seconds=10)
"""What running activities get to finish in when the worker is asked to stop."""


IDENTITY_WORKFLOWS: list[type] = [
    ErasureWorkflow,
    FindDuplicatesWorkflow,
    PeopleImportWorkflow,
    PeopleImportCheckWorkflow,
    GeocodeWorkflow,
    RecomputeScoresWorkflow,
]
"""Workflows on people as such: searches, imports, erasures."""
MARKETING_WORKFLOWS: list[type] = [
    JourneyWorkflow,
    JourneySimulationWorkflow,
    JourneyByDateWorkflow,
    JourneyByCronWorkflow,
    JourneyMigrationWorkflow,
    SegmentRefreshWorkflow,
    CampaignWorkflow,
    CampaignOccurrenceWorkflow,
    RecomputeAttributionWorkflow,
]
"""Workflows on what is sent, and what it brought."""
CRM_WORKFLOWS: list[type] = [
    DealStageWorkflow,
    JourneyMigrationWorkflow,
    PeopleImportWorkflow,
    PeopleImportCheckWorkflow,
]
"""Workflows on deals."""
WEBHOOK_WORKFLOWS: list[type] = [WebhookWorkflow]
"""Workflows that post to others' addresses."""
COMMERCE_WORKFLOWS: list[type] = [CheckoutWorkflow, PeopleImportWorkflow, PeopleImportCheckWorkflow]
"""Workflows on what is sold."""


def geocoder(configuration: Settings) -> Geocoder:
    """Return who finds coordinates from workflows."""
    if configuration.geocoder == "nominatim":
        # A server's usage policy asks whom to turn to.
        return NominatimGeocoder(configuration.nominatim_url, user_agent=f"throughline ({configuration.public_url})")
    return OfflineGeocoder()


def identity_activities(database: Database, configuration: Settings) -> list[Callable[..., Any]]:
    """Return the activities of the identity domain."""
    return [
        *DuplicateActivities(database).all(),
        *ErasureActivities(database, configuration.mail_dir).all(),
        *ImportActivities(database).all(),
        *GeocodingActivities(database, geocoder(configuration)).all(),
        *ScoreActivities(database).all(),
    ]


def versioned(version: str) -> WorkerDeploymentConfig:
    """Return what says to Temporal that a worker is of this version, so that it decides which workflows go there.

    All workflows go on with the version that is current, docs/decisions/worker-versions.md says why.
    """
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=DEPLOYMENT, build_id=version),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )


def worker_of(
    client: Client,
    queue: str,
    workflows: list[type],
    activities: Sequence[Callable[..., Any]],
    version: str | None,
    *,
    at_once: int = STEPS_AT_ONCE,
) -> Worker:
    """Return a worker of a task queue, which may be of a version."""
    return Worker(
        client,
        task_queue=queue,
        workflows=workflows,
        activities=activities,
        # The workflow names what passes through; datetime.now() and the like still raise in its own module.
        workflow_runner=SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default),
        max_concurrent_activities=at_once,
        max_concurrent_local_activities=8,
        graceful_shutdown_timeout=GRACE,
        deployment_config=None if version is None else versioned(version),
    )


def identity_worker(client: Client, activities: Sequence[Callable[..., Any]], version: str | None = None) -> Worker:
    """Return the Temporal worker of the identity domain."""
    return worker_of(client, IDENTITY_QUEUE, IDENTITY_WORKFLOWS, activities, version)


def webhook_worker(client: Client, activities: Sequence[Callable[..., Any]], version: str | None = None) -> Worker:
    """Return the Temporal worker that posts to others' addresses; of the identity domain, as events are."""
    return worker_of(client, WEBHOOK_QUEUE, WEBHOOK_WORKFLOWS, activities, version, at_once=ENDPOINTS_AT_ONCE)


def marketing_activities(
    database: Database, sender: Sender, *, verified_senders: bool = False
) -> list[Callable[..., Any]]:
    """Return the activities of the marketing domain; with `verified_senders` mail must come from verified domains."""
    return [
        *JourneyActivities(database, journey_sends.ACTIONS, sender.wake).all(),
        *JourneyEntryActivities(database).all(),
        *MigrationActivities(database).all(),
        *SegmentActivities(database).all(),
        *SimulationActivities(database).all(),
        *CampaignActivities(database, verified_senders=verified_senders).all(),
        *AttributionActivities(database).all(),
    ]


def crm_activities(database: Database, wake_sender: Callable[[], None]) -> list[Callable[..., Any]]:
    """Return the activities of the sales domain."""
    return [
        *JourneyActivities(database, journey_nodes.ACTIONS, wake_sender).all(),
        *MigrationActivities(database).all(),
        *ImportActivities(database, deal_import.KINDS).all(),
    ]


def crm_worker(client: Client, activities: Sequence[Callable[..., Any]], version: str | None = None) -> Worker:
    """Return the Temporal worker of the sales domain."""
    return worker_of(client, CRM_QUEUE, CRM_WORKFLOWS, activities, version)


def commerce_activities(database: Database, gateways: Gateways) -> list[Callable[..., Any]]:
    """Return the activities of the commerce domain."""
    return [*CheckoutActivities(database, gateways).all(), *ImportActivities(database, product_import.KINDS).all()]


def commerce_worker(client: Client, activities: Sequence[Callable[..., Any]], version: str | None = None) -> Worker:
    """Return the Temporal worker of the commerce domain."""
    return worker_of(client, COMMERCE_QUEUE, COMMERCE_WORKFLOWS, activities, version, at_once=CHECKOUTS_AT_ONCE)


def marketing_worker(client: Client, activities: Sequence[Callable[..., Any]], version: str | None = None) -> Worker:
    """Return the Temporal worker of the marketing domain."""
    return worker_of(client, MARKETING_QUEUE, MARKETING_WORKFLOWS, activities, version)


async def run(configuration: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set: for all domains, or for that which the settings name."""
    database = Database(configuration.database_url, pool_size=configuration.database_pool_size)
    client = await connect(configuration)
    sender = Sender(database, configuration)
    gateways = Gateways(configuration)
    version = configuration.worker_version
    outside = outward.client(private=configuration.allow_private_hosts)
    workers: list[tuple[Domain, Callable[[], Worker]]] = [
        (
            "marketing",
            lambda: marketing_worker(
                client,
                marketing_activities(database, sender, verified_senders=configuration.require_verified_domain),
                version,
            ),
        ),
        ("identity", lambda: identity_worker(client, identity_activities(database, configuration), version)),
        (
            "identity",
            lambda: webhook_worker(client, WebhookActivities(database, configuration, outside).all(), version),
        ),
        ("crm", lambda: crm_worker(client, crm_activities(database, sender.wake), version)),
        ("commerce", lambda: commerce_worker(client, commerce_activities(database, gateways), version)),
    ]
    own = [make() for domain, make in workers if configuration.domain in {None, domain}]
    figures = Figures(database)
    here = present("worker", database, configuration, collectors=[figures], refresh=figures.refresh, temporals=True)
    try:
        async with here, AsyncExitStack() as running, asyncio.TaskGroup() as group:
            for worker in own:
                await running.enter_async_context(worker)
            group.create_task(relay.run(database, client, stop, eager=True, settings=configuration), name="relay")
            if configuration.domain in {None, "marketing"}:
                group.create_task(sender.run(stop), name="sender")
            log.info("worker.ready", task_queues=[worker.task_queue for worker in own])
            await stop.wait()
    finally:
        await gateways.close()
        await outside.aclose()
        await database.close()


@asynccontextmanager
async def stopping_on_signals() -> AsyncGenerator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def run_relay(configuration: Settings, stop: asyncio.Event) -> None:
    """Run the relay alone until `stop` is set: for deployments that keep it apart from the workers."""
    database = Database(configuration.database_url, pool_size=configuration.database_pool_size)
    figures = Figures(database)
    here = present("relay", database, configuration, collectors=[figures], refresh=figures.refresh, temporals=True)
    try:
        client = await connect(configuration)
        async with here:
            await relay.run(database, client, stop, eager=False, settings=configuration)
    finally:
        await database.close()


async def main(
    work: Callable[[Settings, asyncio.Event], Awaitable[None]] = run,
    *,
    domain: Domain | None = None,
    service: str = "throughline-worker",
) -> None:
    """Do `work` with this process's settings, for `domain` where one is given, until a signal comes.

    Traces call the process `service`.
    """
    configuration = settings()
    if domain is not None:
        configuration = configuration.model_copy(update={"domain": domain})
    logging.configure(configuration.log_level)
    memory.settle()
    async with exporting.traces(service), stopping_on_signals() as stop:
        await work(configuration, stop)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="The worker process.")
    options.add_argument("--domain", choices=DOMAINS, help="the one domain to work for; all unless given")
    uvloop.run(main(domain=options.parse_args().domain))
