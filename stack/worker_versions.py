"""`throughline workers`: which version of the code Temporal sends workflows to (docs/upgrading.md)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer
from temporalio.api.workflowservice.v1 import (
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from core import temporal
from core.settings import settings
from stack.doctor import engine

app = typer.Typer(no_args_is_help=True, help="Versions of workers, as Temporal knows them.")
ALL: Final = 100.0


@app.command("list")
def show() -> None:
    """Print the versions that workers came with, and which of them is current."""
    typer.echo(_run(listed))


@app.command("use")
def use(
    version: Annotated[str, typer.Argument(help="As WORKER_VERSION of workers that run.")],
    share: Annotated[float, typer.Option(min=0, max=100, help="So many per cent of workflows, to try it.")] = ALL,
) -> None:
    """Have workflows go on with VERSION from their next step on: all of them, or a share."""
    typer.echo(_run(lambda client: chosen(client, version, share)))


async def listed(client: Client) -> str:
    """Return a line for each version."""
    found = await engine.deployment(client)
    if found is None:
        return "No worker came with a version."
    routing = found.routing_config
    marks = {
        routing.current_deployment_version.build_id: "current",
        routing.ramping_deployment_version.build_id: f"{routing.ramping_version_percentage:g} %",
    }
    names = [each.deployment_version.build_id for each in found.version_summaries]
    return "\n".join(f"{name:<24}{marks.get(name, '')}".rstrip() for name in names)


async def chosen(client: Client, version: str, share: float = ALL) -> str:
    """Make a version current, or give it a share of the workflows.

    Raises:
        RPCError: no worker of it has come yet, or it lacks one of the task queues of the current one.
    """
    service = client.workflow_service
    if share < ALL:
        await service.set_worker_deployment_ramping_version(
            SetWorkerDeploymentRampingVersionRequest(
                namespace=client.namespace,
                deployment_name=temporal.DEPLOYMENT,
                build_id=version if share else "",
                percentage=share,
            )
        )
        return f"{share:g} % of workflows go on with {version}."
    await service.set_worker_deployment_current_version(
        SetWorkerDeploymentCurrentVersionRequest(
            namespace=client.namespace, deployment_name=temporal.DEPLOYMENT, build_id=version
        )
    )
    return f"Workflows go on with {version}."


def _run(work: Callable[[Client], Awaitable[str]]) -> str:
    async def with_client() -> str:
        return await work(await temporal.connect(settings().model_copy(update={"metrics_listen": None})))

    try:
        return asyncio.run(with_client())
    except (RPCError, RuntimeError) as error:
        typer.secho(f"throughline: Temporal: {error}", err=True, fg="red")
        raise typer.Exit(1) from error
