"""Looks at Temporal: whether it answers, knows what we search by, and has workers that ask it for work."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from sqlalchemy import select
from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import IndexedValueType, TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from core import temporal
from core.database import Database
from core.domains import DOMAINS, Domain
from core.settings import Settings
from models import WorkflowSchedule
from relay.schedules import name_of
from stack.doctor.findings import Finding, failure, ok, skipped, warning

QUEUES: Final[dict[Domain, Sequence[str]]] = {
    "identity": (temporal.IDENTITY_QUEUE, temporal.WEBHOOK_QUEUE),
    "marketing": (temporal.MARKETING_QUEUE,),
    "crm": (temporal.CRM_QUEUE,),
    "commerce": (temporal.COMMERCE_QUEUE,),
}
ATTRIBUTES: Final = (temporal.TENANT_ID, temporal.DOMAIN, temporal.JOURNEY_ID, temporal.CAMPAIGN_ID)
PATIENCE: Final = 10.0
RETENTION: Final = timedelta(days=1)
SCHEDULES: Final = 10_000
"""More are not compared."""


async def connected(settings: Settings) -> tuple[Client | None, list[Finding]]:
    """Connect to Temporal; say what is found, and return no client where there is nothing to ask."""
    try:
        async with asyncio.timeout(PATIENCE):
            client = await temporal.connect(settings.model_copy(update={"metrics_listen": None}))
            namespace = await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=client.namespace)
            )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            says = f"Temporal at {settings.temporal_address} has no namespace {settings.temporal_namespace}"
            return None, [failure("temporal.namespace", says, "Create it, or correct TEMPORAL_NAMESPACE.")]
        return None, [_unreachable(settings, error)]
    except (RuntimeError, TimeoutError, OSError) as error:
        return None, [_unreachable(settings, error)]
    found = [ok("temporal.reachable", f"Temporal answers at {settings.temporal_address}")]
    kept: Duration = namespace.config.workflow_execution_retention_ttl
    if kept.ToTimedelta() < RETENTION:
        do = "Keep workflows that are over for a day or more: a start that is repeated is known by them."
        found.append(warning("temporal.namespace", f"{client.namespace} keeps them for {kept.ToTimedelta()}", do))
    else:
        found.append(ok("temporal.namespace", client.namespace))
    return client, found


def _unreachable(settings: Settings, error: Exception) -> Finding:
    return failure(
        "temporal.reachable",
        f"Temporal does not answer at {settings.temporal_address}: {type(error).__name__}",
        "Start it, or correct TEMPORAL_ADDRESS and what belongs to it. Nothing is lost meanwhile: what is owed waits.",
    )


async def examine(client: Client, database: Database | None, settings: Settings) -> list[Finding]:
    """Look at what a Temporal that answers has of ours."""
    queues = [queue for domain in DOMAINS if settings.domain in {None, domain} for queue in QUEUES[domain]]
    polled = {queue: await _polled(client, queue) for queue in queues}
    return [
        await _attributes(client),
        *[_pollers(queue, *pollers) for queue, pollers in polled.items()],
        await _versions(client, [poller for workflows, _ in polled.values() for poller in workflows]),
        await _schedules(client, database),
    ]


async def _attributes(client: Client) -> Finding:
    try:
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
    except RPCError as error:
        return skipped("temporal.search_attributes", f"may not be asked for: {error.status.name}")
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    missing = [each.name for each in ATTRIBUTES if known.custom_attributes.get(each.name) != keyword]
    if missing:
        options = " ".join(f"--name {name} --type Keyword" for name in missing)
        return failure(
            "temporal.search_attributes",
            f"{', '.join(missing)} are not there, or not of type Keyword: no workflow of ours is started",
            f"temporal operator search-attribute create --namespace {client.namespace} {options}",
        )
    return ok("temporal.search_attributes", ", ".join(each.name for each in ATTRIBUTES))


async def _polled(client: Client, queue: str) -> tuple[Sequence[PollerInfo], Sequence[PollerInfo]]:
    """Return who asks for a queue's workflows, and for its activities."""
    workflows, activities = [
        await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind)
        )
        for kind in (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
    ]
    return workflows.pollers, activities.pollers


def _pollers(queue: str, *pollers: Sequence[PollerInfo]) -> Finding:
    check = f"temporal.pollers.{queue}"
    polled = [len({poller.identity for poller in each}) for each in pollers]
    if not all(polled):
        do = f"Start `throughline worker`, for all domains or for that of {queue}."
        return failure(check, f"no worker asks for the work of the task queue {queue}", do)
    return ok(check, f"{min(polled)} workers ask for the work of {queue}")


async def deployment(client: Client) -> WorkerDeploymentInfo | None:
    """Return what Temporal knows of our workers that have versions; None where none ever had one."""
    try:
        answer = await client.workflow_service.describe_worker_deployment(
            DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=temporal.DEPLOYMENT)
        )
    except RPCError as error:
        if error.status in {RPCStatusCode.NOT_FOUND, RPCStatusCode.UNIMPLEMENTED}:
            return None
        raise
    return answer.worker_deployment_info


async def _versions(client: Client, pollers: Sequence[PollerInfo]) -> Finding:
    """See that what is current is what runs: where it is not, workflows wait for workers that never come."""
    check = "temporal.worker_version"
    found = await deployment(client)
    polling = {poller.deployment_options.build_id for poller in pollers} - {""}
    current = "" if found is None else found.routing_config.current_deployment_version.build_id
    if not polling and not current:
        return ok(check, "workers have no versions")
    if not current:
        says = f"workers of version {', '.join(sorted(polling))} run, and none is current"
        return failure(check, says, "throughline workers use VERSION (docs/upgrading.md)")
    if current not in polling:
        do = f"Start workers with WORKER_VERSION={current}, or `throughline workers use` one that runs."
        return failure(check, f"version {current} is current, and no worker of it runs", do)
    return ok(check, f"{current} is current")


async def _schedules(client: Client, database: Database | None) -> Finding:
    check = "temporal.schedules"
    if database is None:
        return skipped(check, "Postgres says which there are to be")
    async with database.system() as session:
        row = WorkflowSchedule
        wanted = await session.execute(
            select(row.workflow, row.tenant_id, row.id)
            .where(row.wanted, row.applied_revision == row.revision)
            .limit(SCHEDULES)
        )
        names = {name_of(*each) for each in wanted}
    known: set[str] = set()
    if names:
        known = {each.id async for each in await client.list_schedules(page_size=1_000)}
    lost = len(names - known)
    if lost:
        do = "The relay makes them anew within the hour, or at once when it is restarted; until then they do not run."
        return warning(check, f"Temporal has lost {lost} of {len(names)} schedules", do)
    return ok(check, f"{len(names)}, as Postgres has them")
