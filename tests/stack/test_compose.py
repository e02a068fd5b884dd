"""docker-compose.yml fits our command line, our settings and PostgreSQL, though no Docker engine is needed to know."""

import asyncio
import re
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer
import typer.core
import yaml

from cli import app
from core.database import Database
from core.exporting import ENDPOINTS
from core.settings import Settings
from core.temporal import CAMPAIGN_ID, DOMAIN, JOURNEY_ID, TENANT_ID
from migrations.run import upgrade
from stack.postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service.get("image") == "throughline:local"]
ONE_SHOT = {"migrate", "search-attributes"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_names_its_image_with_a_version(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].partition(":")[2]
    assert tag not in {"", "latest"}
    assert ("build" in service) == (name in OURS)


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_is_one_the_command_line_takes(name: str) -> None:
    program, *arguments = SERVICES[name]["command"]
    assert program == "throughline"
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    _, command, rest = group.resolve_command(group.make_context("throughline", list(arguments)), list(arguments))
    assert command is not None
    command.make_context(command.name, rest)


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    every: dict[str, Any] = SERVICES[name]["environment"]
    assert ENDPOINTS[-1] in every
    # the standard's are read by its own SDK
    environment = {key: value for key, value in every.items() if not key.startswith("OTEL_")}
    assert {variable.lower() for variable in environment} <= set(Settings.model_fields)
    plain = {key.lower(): re.sub(r"\$\{\w+:\?\}", "x" * 40, str(value)) for key, value in environment.items()}
    plain = {key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in plain.items()}
    assert "$" not in "".join(plain.values())
    Settings(**plain)  # pyright: ignore[reportArgumentType]  # text, as from the environment


def test_secrets_have_no_default() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|KEY)\w*)([^}]*)\}", (ROOT / "docker-compose.yml").read_text())
    assert {name for name, _ in secrets} == {"POSTGRES_PASSWORD", "APP_PASSWORD", "TEMPORAL_PASSWORD", "SECRET_KEY"}
    assert {rest for _, rest in secrets} == {":?"}


@pytest.mark.parametrize("name", SERVICES)
def test_who_waits_for_health_waits_for_a_service_that_has_a_check(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"
        else:
            assert (other in ONE_SHOT, how["condition"]) == (True, "service_completed_successfully")


def test_ports_are_published_on_this_machine_alone_and_none_twice() -> None:
    published = [port.rpartition(":")[0] for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(address.startswith("127.0.0.1:") for address in published)
    assert len(set(published)) == len(published)


def test_the_api_is_published_and_checked_on_the_port_it_listens_on() -> None:
    api = SERVICES["api"]
    port = api["command"][api["command"].index("--port") + 1]
    assert api["ports"] == [f"127.0.0.1:8080:{port}"]
    assert f":{port}/readyz" in api["healthcheck"]["test"][-1]


def test_every_search_attribute_is_made() -> None:
    command = SERVICES["search-attributes"]["command"]
    made = {command[at + 1] for at, word in enumerate(command) if word == "--name"}
    assert made == {attribute.name for attribute in (TENANT_ID, DOMAIN, JOURNEY_ID, CAMPAIGN_ID)}


def test_the_image_runs_unprivileged_and_installs_by_hash() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "\nUSER throughline\n" in dockerfile
    installs = [line for line in dockerfile.splitlines() if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


@pytest.fixture
def server() -> Generator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # pytest's own temporary folders are closed to PostgreSQL's account
        server = EmbeddedPostgres(Path(folder))
        server.start()
        yield server
        server.stop()


async def test_the_application_login_can_work_but_not_own(server: EmbeddedPostgres) -> None:
    script = COMPOSE["configs"]["postgres-logins"]["content"]
    statements = re.search(r"<<'SQL'\n(.*)\nSQL", script, re.DOTALL)
    assert statements is not None
    superuser = await asyncpg.connect(server.url())
    for statement in statements[1].replace(":'app'", "'app'").replace(":'temporal'", "'temporal'").splitlines():
        await superuser.execute(statement)
    await superuser.close()
    await asyncio.to_thread(lambda: asyncio.run(upgrade(server.url())))

    login = re.sub("//.*@", "//throughline_app:app@", server.url())
    database = Database(login, pool_size=1)
    await database.ping()
    async with database.system():
        pass
    await database.close()
    connection = await asyncpg.connect(login)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("SET ROLE tl_owner")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("SELECT count(*) FROM person")  # nothing before it takes one of its roles
    await connection.close()
