"""`throughline`: runs the parts of the platform, alone as a deployment does, or together on one machine."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
import uvicorn
import uvloop

import worker as worker_process
from core.actor import CLI
from core.database import Database, TenantSession
from core.domains import Domain
from core.errors import NotFoundError, PlatformError
from core.settings import settings
from migrations.run import prepare_roles, upgrade
from receiver import process as receiver
from relay import restoring
from services.identity import normalize
from services.identity.import_upload import Upload, parsed_object
from services.tenancy import api_keys, passwords, tenants, throttle, users
from stack import demo_access, dev, journey_tools, people_files, worker_versions
from stack.demo import Demo
from stack.doctor import command as doctor_command
from stack.processes import StackError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
tenant_app = typer.Typer(no_args_is_help=True, help="Tenants.")
key_app = typer.Typer(no_args_is_help=True, help="API keys.")
user_app = typer.Typer(no_args_is_help=True, help="Teammates of a tenant.")
app.add_typer(tenant_app, name="tenant")
app.add_typer(key_app, name="api-key")
app.add_typer(user_app, name="user")
app.add_typer(journey_tools.app, name="journeys")
app.add_typer(worker_versions.app, name="workers")


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
        with Demo(dev.run_detached(typer.echo), typer.echo) as demo:
            demo.run()
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
def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Look at everything this deployment needs, and say what is wrong and what to do. See docs/doctor.md."""
    text, code = doctor_command.run(as_json=as_json)
    typer.echo(text)
    raise typer.Exit(code)


@app.command()
def migrate(
    *, roles: Annotated[bool, typer.Option("--roles", help="Only make the roles, before a dump is restored.")] = False
) -> None:
    """Bring the database that DATABASE_URL names to the newest schema."""
    asyncio.run((prepare_roles if roles else upgrade)(settings().database_url))


@app.command()
def restored(
    *,
    only_temporal: Annotated[
        bool, typer.Option("--only-temporal", help="Postgres is whole, and only Temporal's store was lost.")
    ] = False,
) -> None:
    """After a restore, before a process starts: have the bus and workflows go on. See docs/backup.md."""
    try:
        found = asyncio.run(restoring.restored(settings().database_url, bus=not only_temporal))
    except restoring.StillRunningError as error:
        raise _failure(error) from error
    if not only_temporal:
        typer.echo(f"{found.events} events, {found.unread} of them to be read by some of {found.consumers} consumers.")
    typer.echo(f"{found.workflows} workflows owed to Temporal again.")


MESSAGE_BYTES: Final = 1024 * 1024
"""Of what is sent over a WebSocket: a query of GraphQL has at most 100,000 characters, its variables the rest."""

DomainOption = Annotated[
    Domain | None, typer.Option(envvar="DOMAIN", help="The one domain to run; all of them unless given.")
]


@app.command()
def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port to listen on.")] = 8080,
    processes: Annotated[int, typer.Option(min=1, help="How many of it to run on this port.")] = 1,
    domain: DomainOption = None,
) -> None:
    """Serve the API."""
    if domain is not None:
        os.environ["DOMAIN"] = domain  # for the processes that make the application
    uvicorn.run(
        "api.app:create_app",
        factory=True,
        host=host,
        port=port,
        workers=processes,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
    )


@app.command()
def worker(domain: DomainOption = None) -> None:
    """Run workflows and activities, and beside them the relay and a sender, until SIGTERM."""
    uvloop.run(worker_process.main(domain=domain))


@app.command()
def relay(domain: DomainOption = None) -> None:
    """Run the relay alone, without workflows, activities or a sender, until SIGTERM."""
    uvloop.run(worker_process.main(worker_process.run_relay, domain=domain, service="throughline-relay"))


@app.command()
def sender(
    processes: Annotated[int, typer.Option(min=1, help="How many of it to run; one a core is plenty.")] = 1,
) -> None:
    """Run senders alone, without workflows, activities or the relay, until SIGTERM."""
    # In place of this process, whose commands hold four times the memory.
    os.execv(sys.executable, [sys.executable, "-m", "sender.process", "--processes", str(processes)])  # noqa: S606 - our own module


@app.command()
def inbound(
    tenant: Annotated[str | None, typer.Option(help="The key of the tenant whose mail without a token is.")] = None,
    recipient: Annotated[
        str | None, typer.Option(help="Whom the envelope of the mail on standard input names.")
    ] = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Serve SMTP there, until SIGTERM.")] = None,
    *,
    lmtp: Annotated[bool, typer.Option(help="With --listen: LMTP in place of SMTP.")] = False,
) -> None:
    """Take a mail that came in from standard input, or serve SMTP or LMTP. See docs/feedback.md."""
    sys.exit(receiver.run(tenant=tenant, recipient=recipient, listen=listen, lmtp=lmtp))


ObjectOption = Annotated[
    str | None, typer.Option("--object", help="The key of the object whose records they are, in place of --kind.")
]
KindOption = Annotated[str, typer.Option("--kind", help=f"What they are: {' or '.join(people_files.NOUNS)}.")]


@app.command("import")
def import_people(  # noqa: PLR0913 - the options of one command
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or NDJSON.")],
    tenant: Annotated[str, typer.Option(help="The tenant's key.")],
    preset: Annotated[str | None, typer.Option(help="hubspot, mautic, listmonk or mailchimp.")] = None,
    mapping: Annotated[str | None, typer.Option(help="JSON: column to field, null to leave it out.")] = None,
    options: Annotated[str | None, typer.Option(help="JSON, as the API takes them.")] = None,
    object_key: ObjectOption = None,
    kind: KindOption = "people",
    *,
    follow: Annotated[bool, typer.Option(help="Show how far it has come, until it is over.")] = True,
) -> None:
    """Import people, deals or records from FILE; a worker must be running. See docs/imports.md."""
    chosen = {} if preset is None else {"preset": preset}
    typer.echo(_run(_import_file(file, tenant, mapping, options, chosen, (kind, object_key), follow=follow)))


@app.command("export")
def export_people(
    tenant: Annotated[str, typer.Option(help="The tenant's key.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write; .ndjson for NDJSON, else CSV.")],
    object_key: ObjectOption = None,
    kind: KindOption = "people",
) -> None:
    """Write all people or deals of a tenant, or all records of an object, to a file."""
    typer.echo(_run(_export_file(tenant, output, object_key, kind)))


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


PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@user_app.command("create")
def create_user(
    tenant: Annotated[str, typer.Argument(help="The tenant's key.")],
    email: Annotated[str, typer.Argument(help="What they sign in with.")],
    *,
    role: Annotated[str, typer.Option(help="owner, admin, marketer, sales or read_only.")] = "owner",
    name: Annotated[str | None, typer.Option(help="What people read; the address unless given.")] = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Make a teammate of TENANT; asks for the password and prints the id."""
    typer.echo(_run(_create_user(tenant, email, role, name or email, _password(from_stdin=password_stdin))))


@user_app.command("password")
def set_password(
    tenant: Annotated[str, typer.Argument(help="The tenant's key.")],
    email: Annotated[str, typer.Argument(help="What they sign in with.")],
    *,
    password_stdin: PasswordStdin = False,
) -> None:
    """Give a teammate who forgot it a new password; ends their sessions within ten seconds."""
    typer.echo(_run(_set_password(tenant, email, _password(from_stdin=password_stdin))))


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


async def _create_user(tenant_key: str, email: str, role: str, name: str, password: str) -> str:
    email = normalize.email(email)
    passwords.check(password, email)
    password_hash = await passwords.hash_of(password)

    async def create(session: TenantSession) -> str:
        user = await users.create(session, email=email, name=name, role=role, password_hash=password_hash, by=CLI)
        return str(user.id)

    return await _within(tenant_key, create)


async def _set_password(tenant_key: str, email: str, password: str) -> str:
    email = normalize.email(email)
    passwords.check(password, email)
    password_hash = await passwords.hash_of(password)

    async def change(session: TenantSession) -> str:
        user = await users.by_email(session, email)
        if user is None:
            raise NotFoundError(f"{tenant_key} has no user with the address {email}.")
        await users.set_password(session, user, password_hash, by=CLI, now=datetime.now(UTC))
        return str(user.id)

    return await _within(tenant_key, change, forgiven=email)


async def _within(
    tenant_key: str, work: Callable[[TenantSession], Awaitable[str]], *, forgiven: str | None = None
) -> str:
    """Do the work in one transaction of the tenant that operators call `tenant_key`.

    The address `forgiven` need not wait any longer to sign in.
    """
    database = Database(settings().database_url, pool_size=1)
    try:
        async with database.system() as session:
            tenant_id = (await tenants.by_key(session, tenant_key)).id
        async with database.tenant(tenant_id) as session:
            answer = await work(session)
        if forgiven is not None:
            async with database.system() as session:
                await throttle.forgive(session, forgiven)
        return answer
    finally:
        await database.close()


async def _create_tenant(key: str, name: str) -> str:
    database = Database(settings().database_url, pool_size=1)
    try:
        async with database.system() as session:
            return str((await tenants.create(session, key, name)).id)
    finally:
        await database.close()


async def _create_key(tenant_key: str, name: str, scopes: list[str]) -> str:
    async def create(session: TenantSession) -> str:
        _, secret = await api_keys.create(session, name, scopes, by=CLI)
        return secret

    return await _within(tenant_key, create)


async def _import_file(
    file: Path,
    tenant: str,
    mapping: str | None,
    options: str | None,
    chosen: dict[str, str],
    of: tuple[str, str | None],
    *,
    follow: bool,
) -> str:
    upload = Upload(
        file_name=file.name,
        mapping=parsed_object(mapping, "mapping"),
        options={**(parsed_object(options, "options") or {}), **chosen},
        start=True,
    )
    noun, object_key = of
    url = settings().database_url
    found = await people_files.import_file(
        url, tenant, file, upload, noun=noun, of=object_key, follow=follow, progress=_show_progress
    )
    typer.echo("", err=True)
    return f"{found.id} {people_files.described(found)}"


async def _export_file(tenant: str, output: Path, object_key: str | None, noun: str) -> str:
    kind = "ndjson" if output.suffix in {".ndjson", ".jsonl"} else "csv"
    url = settings().database_url
    count = await people_files.export_file(url, tenant, output, kind, noun=noun, of=object_key, progress=_show_progress)
    typer.echo("", err=True)
    return f"{count} {noun if object_key is None else 'records'} in {output}"


def _show_progress(line: str) -> None:
    typer.echo(f"\r{line:<78}", nl=False, err=True)


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
        f"  API key      {info.api_key}  (tenant {demo_access.TENANT})\n"
        f"  Sign in      {info.user_email}  {info.user_password}\n"
        f"  Temporal UI  {info.temporal_ui_url or 'of your server'}\n"
        f"  Temporal     {info.temporal_address}\n"
        f"  Postgres     {info.database_url}\n"
        f"  Mail         {info.mail_dir or 'to SMTP_URL'}\n"
        f"  All of this  {dev.INFO}"
    )


if __name__ == "__main__":
    app()
