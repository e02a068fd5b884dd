"""`throughline`: runs the parts of the platform, alone as a deployment does, or together on one machine."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated

import typer
import uvicorn
import uvloop

import worker as worker_process
from core.actor import CLI
from core.database import Database
from core.errors import PlatformError
from core.settings import settings
from migrations.run import upgrade
from services.tenancy import api_keys, tenants
from stack import dev
from stack.demo import Demo
from stack.processes import StackError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
tenant_app = typer.Typer(no_args_is_help=True, help="Tenants.")
key_app = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(tenant_app, name="tenant")
app.add_typer(key_app, name="api-key")


@app.command("dev")
def run_dev(
    *, detach: Annotated[bool, typer.Option(help="Return once all is up; `throughline down` stops it.")] = False
) -> None:
    """Run Postgres, Temporal with its UI, the API and a worker on this machine."""
    try:
        if detach:
            _show(dev.run_detached(typer.echo))
        else:
            dev.run(typer.echo, started=_show_in_foreground)
    except StackError as error:
        raise _failure(error) from error


@app.command("demo")
def run_demo() -> None:
    """Run everything, do the main job through the public API, and leave the stack running."""
    try:
        Demo(dev.run_detached(typer.echo), typer.echo).run()
    except StackError as error:
        raise _failure(error) from error


@app.command()
def down() -> None:
    """Stop the stack of this checkout that `dev` or `demo` left running."""
    try:
        dev.stop_running(typer.echo)
    except StackError as error:
        raise _failure(error) from error


@app.command()
def migrate() -> None:
    """Bring the database that DATABASE_URL names to the newest schema."""
    asyncio.run(upgrade(settings().database_url))


@app.command()
def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port to listen on.")] = 8080,
    processes: Annotated[int, typer.Option(min=1, help="How many of it to run on this port.")] = 1,
) -> None:
    """Serve the API."""
    uvicorn.run(
        "api.app:create_app", factory=True, host=host, port=port, workers=processes, loop="uvloop", http="httptools"
    )


@app.command()
def worker() -> None:
    """Run workflows and activities, and beside them the relay and a sender, until SIGTERM."""
    uvloop.run(worker_process.main())


@app.command()
def relay() -> None:
    """Run the relay alone, without workflows, activities or a sender, until SIGTERM."""
    uvloop.run(worker_process.main(worker_process.run_relay))


@tenant_app.command("create")
def create_tenant(key: str, name: Annotated[str | None, typer.Option(help="What people read.")] = None) -> None:
    """Make a tenant that operators call KEY; prints its id."""
    typer.echo(_run(_create_tenant(key, name or key)))


@key_app.command("create")
def create_key(
    tenant: Annotated[str, typer.Argument(help="The tenant's key.")],
    name: Annotated[str, typer.Option(help="What people recognise the key by.")] = "command line",
    scope: Annotated[list[str] | None, typer.Option(help="What it allows; give it several times.")] = None,
) -> None:
    """Make an API key, with every scope unless told otherwise; prints its secret, which is shown this once."""
    typer.echo(_run(_create_key(tenant, name, scope or [api_keys.ALL])))


async def _create_tenant(key: str, name: str) -> str:
    database = Database(settings().database_url, pool_size=1)
    try:
        async with database.system() as session:
            return str((await tenants.create(session, key, name)).id)
    finally:
        await database.close()


async def _create_key(tenant_key: str, name: str, scopes: list[str]) -> str:
    database = Database(settings().database_url, pool_size=1)
    try:
        async with database.system() as session:
            tenant_id = (await tenants.by_key(session, tenant_key)).id
        async with database.tenant(tenant_id) as session:
            _, secret = await api_keys.create(session, name, scopes, by=CLI)
            return secret
    finally:
        await database.close()


def _run(work: Coroutine[None, None, str]) -> str:
    try:
        return asyncio.run(work)
    except PlatformError as error:
        raise _failure(error) from error


def _failure(error: Exception) -> typer.Exit:
    typer.secho(f"throughline: {error}", err=True, fg="red")
    return typer.Exit(1)


def _show_in_foreground(info: dev.DevInfo) -> None:
    _show(info)
    typer.echo("\nCtrl-C stops everything.")


def _show(info: dev.DevInfo) -> None:
    typer.echo(
        "\nThroughline is up.\n"
        f"  API          {info.base_url}  (reference: {info.base_url}/v1/docs)\n"
        f"  API key      {info.api_key}  (tenant {dev.DEMO_TENANT})\n"
        f"  Temporal UI  {info.temporal_ui_url or 'of your server'}\n"
        f"  Temporal     {info.temporal_address}\n"
        f"  Postgres     {info.database_url}\n"
        f"  Mail         {info.mail_dir or 'to SMTP_URL'}\n"
        f"  All of this  {dev.INFO}"
    )


if __name__ == "__main__":
    app()
