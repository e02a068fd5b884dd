"""The documents say what is true: their commands run, their examples are valid, their links lead somewhere."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main
from pydantic import TypeAdapter

import cli
from core.actor import CLI
from core.database import Database
from core.settings import Settings
from journeys.checking import Vocabulary
from journeys.conditions import RootCondition
from journeys.definition import JourneyDefinition
from journeys.entries import EventEntry
from journeys.nodes import Node
from journeys.validation import parse, validate
from services.identity.field_types import PERSON_FIELDS
from services.tenancy import api_keys, tenants
from stack import demo_tenant
from stack.processes import ChildProcess, listening_socket

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)\)")


def blocks(language: str) -> list[tuple[str, str]]:
    """All code blocks of a language, with the document they stand in."""
    return [
        (path.name, text) for path in DOCUMENTS for found, text in _BLOCK.findall(path.read_text()) if found == language
    ]


def curl_commands() -> dict[str, list[str]]:
    """The curl commands of each document, in its order."""
    found: dict[str, list[str]] = {}
    for name, text in blocks("sh"):
        commands = [command for command in re.split(r"\n(?=curl )", text) if command.startswith("curl ")]
        if commands:
            found.setdefault(name, []).extend(commands)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in _LINK.findall(path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_json_examples_are_valid() -> None:
    seen = 0
    for name, text in blocks("json"):
        value: dict[str, Any] = json.loads(text)
        seen += 1
        if "nodes" in value:
            definition = parse(value)
            known = {("email", "cart_reminder"): frozenset[str]()}
            words = Vocabulary(person_fields=PERSON_FIELDS, segments=frozenset())
            assert not validate(definition, words, templates=known), name
            assert isinstance(definition.entries[0], EventEntry)
            assert isinstance(definition, JourneyDefinition)
        elif "type" in value:
            TypeAdapter[Any](Node).validate_python(value)
        else:
            TypeAdapter[Any](RootCondition).validate_python(value)
    assert seen >= 2


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for path in DOCUMENTS for target in re.findall(r"`?make ([a-z]+)", _code_of(path))}
    assert {"demo", "test"} <= named <= targets


def test_commands_exist() -> None:
    known = set(_commands(typer.main.get_command(cli.app)))
    named = {
        " ".join(words)
        for path in DOCUMENTS
        for line in re.findall(r"throughline ((?:[a-z-]+)(?: create)?)", _code_of(path))
        if (words := line.split())
    }
    assert named
    assert named <= known, f"unknown commands: {sorted(named - known)}"


def test_settings_are_all_described() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    described = set(re.findall(r"`([A-Z][A-Z_]+)`", text))
    actual = {name.upper() for name in Settings.model_fields}
    assert described & actual == actual, f"not described: {sorted(actual - described)}"
    assert described <= actual, f"no such setting: {sorted(described - actual)}"


@pytest.fixture(scope="module")
async def served(
    settings: Settings, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[dict[str, str]]:
    """A running API with the demo's tenant: the environment in which the documents' commands run."""
    secret = await _tenant(database)
    with _api(settings, tmp_path_factory.mktemp("docs")) as base_url:
        environment = {**os.environ, "BASE_URL": base_url, "API_KEY": secret}
        for template in demo_tenant.TEMPLATES:
            _post(environment, "/templates", template)
        for key, name, definition in demo_tenant.JOURNEYS:
            _post(environment, "/journeys", {"key": key, "name": name, "definition": definition})
            _post(environment, f"/journeys/{key}/publish", {})
        yield environment


@pytest.mark.parametrize("name", curl_commands())
def test_curl_commands_succeed_one_after_the_other(name: str, served: dict[str, str]) -> None:
    for command in curl_commands()[name]:
        answer = _shell(command.replace("curl -s", "curl -s -w '\\n%{http_code}'", 1), served)
        body, _, status = answer.rpartition("\n")
        assert status.startswith("2"), f"{name}: {command} answered {status} {body}"


def _code_of(path: Path) -> str:
    """The shell blocks and the inline code of a document: prose may say `make sure`."""
    text = path.read_text()
    inline = re.findall(r"`([^`\n]+)`", text)
    return "\n".join([block for language, block in _BLOCK.findall(text) if language == "sh"] + inline)


def _commands(command: Any, prefix: str = "") -> Generator[str]:  # noqa: ANN401 - click's types are typer's own business
    for name, inner in getattr(command, "commands", {}).items():
        yield f"{prefix}{name}"
        yield from _commands(inner, f"{prefix}{name} ")


def _shell(command: str, environment: dict[str, str]) -> str:
    return subprocess.run(
        ["bash", "-c", command], env=environment, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30
    ).stdout


def _post(environment: dict[str, str], path: str, body: dict[str, Any]) -> None:
    data = json.dumps(body).replace("'", "'\\''")
    _shell(
        f'curl -sf "$BASE_URL/v1{path}" -H "Authorization: Bearer $API_KEY" '
        f"-H 'Content-Type: application/json' -d '{data}'",
        environment,
    )


async def _tenant(database: Database) -> str:
    async with database.system() as session:
        tenant = await tenants.create(session, f"docs-{os.getpid()}", "Docs")
    async with database.tenant(tenant.id) as session:
        _, secret = await api_keys.create(session, "docs", [api_keys.ALL], by=CLI)
    return secret


@contextmanager
def _api(settings: Settings, folder: Path) -> Generator[str]:
    listener = listening_socket(0)
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url,
        "TEMPORAL_ADDRESS": settings.temporal_address,
        "SECRET_KEY": settings.secret_key.get_secret_value(),
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app", "--fd", str(listener.fileno())]
    child = ChildProcess("API", command, folder / "api.log", env=environment, cwd=ROOT, keep_open=[listener.fileno()])
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        child.start()
        child.wait_until(lambda: httpx.get(f"{base_url}/healthz", timeout=30).is_success, seconds=60)
        yield base_url
    finally:
        child.stop()
        listener.close()
