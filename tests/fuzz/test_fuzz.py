"""Every operation of the OpenAPI document, called by Schemathesis with what it should take and what it should not.

Run by `make fuzz`. The tenant has one of everything, so that most calls get past a 404. What is found is mended in the
route or the document, with a test there.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI

from core.database import Database
from core.settings import Settings
from core.tokens import Tokens
from tests.api.websites import ORIGIN
from tests.api.world import BY_USERS, OPERATIONS, World
from tests.fuzz import hooks
from tests.fuzz.narrowing import narrowed, of_operations
from tests.providers.serving import serving

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(1200)]

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "2"))
"""Generated calls of each operation, beside those that cover its parameters' and bodies' limits one by one."""
ENDING: Final = ("/cancel", "/eject", "/exit", "/merge")
"""What is called after all else, for it leaves others little to do; with it all DELETEs."""
SETTINGS: Final = """
hooks = "{hooks}"
base-url = "{address}"
headers = {{ Authorization = "{key}" }}
# two processes at once are faster than two threads, and make the same calls each time
workers = 1
continue-on-failure = true
request-timeout = 20
warnings = false

[generation]
deterministic = true
database = "none"
no-shrink = true
max-examples = {examples}
allow-x00 = true

[phases]
examples.operation-ordering = "none"
coverage.operation-ordering = "none"
fuzzing.operation-ordering = "none"
# see unsupported_method below
coverage.unexpected-methods = []
# Follows ids from answer to answer; each has its own test in tests/api, and the time is better spent on input.
stateful.enabled = false

# Left out, for it is not so here:
# - positive_data_acceptance: rules between fields, and what stored things allow, are in no schema (422 says which);
# - negative_data_rejection: batches answer 200 and say which items are rejected, a number does for a date or a flag;
# - unsupported_method: `PATCH /v1/segments/preview` is `PATCH /v1/segments/{{segment}}`, of none with this key.
[checks]
enabled = false
not_a_server_error.enabled = true
status_code_conformance.enabled = true
content_type_conformance.enabled = true
response_schema_conformance.enabled = true
response_headers_conformance.enabled = true
ignored_auth.enabled = true

[[operations]]
include-name = {by_users}
headers = {{ Authorization = "Bearer {token}" }}

[[operations]]
include-path = "/t/e"
headers = {{ Origin = "{origin}" }}
"""


@pytest.fixture
async def world(app: FastAPI, database: Database) -> AsyncGenerator[World]:
    async with World.of_its_own(app, database) as world:
        await world.everything()
        yield world


async def settings_of(world: World, address: str) -> str:
    """Return what Schemathesis is to do."""
    return SETTINGS.format(
        hooks=hooks.__name__,
        address=address,
        key=world.client.headers["authorization"],
        examples=EXAMPLES,
        by_users=json.dumps(sorted(BY_USERS)),
        token=await world.signed_in(),
        origin=ORIGIN,
    )


async def run(document: Mapping[str, Any], settings: str, folder: Path) -> str | None:
    """Have Schemathesis call each operation; return what it says where it finds something."""
    folder.mkdir()
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "schemathesis.toml").write_text(settings)
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        "--config-file=schemathesis.toml",
        "run",
        "openapi.json",
        *os.environ.get("FUZZ_ARGS", "").split(),
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "120", "PYTHONPATH": str(Path.cwd())},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    sys.stdout.write(said[said.rfind("API Operations:") :])
    return None if process.returncode == 0 else said


async def test_no_call_is_answered_by_an_error_of_ours_or_in_an_undocumented_way(
    app: FastAPI, world: World, settings: Settings, tmp_path: Path
) -> None:
    document = await narrowed(world, Tokens(settings.secret_key.get_secret_value()))
    ending = [operation for operation in OPERATIONS if operation.method == "DELETE" or operation.path.endswith(ENDING)]
    # parts before wholes, for those are gone with them
    ending.sort(key=lambda operation: (-len(operation.names), operation.path))
    lasting = [operation for operation in OPERATIONS if operation not in ending]
    async with serving(app) as address:
        wanted = await settings_of(world, address)
        parts = [of_operations(document, part) for part in (lasting[::2], lasting[1::2], ending)]
        found = [
            *await asyncio.gather(run(parts[0], wanted, tmp_path / "even"), run(parts[1], wanted, tmp_path / "odd")),
            # last, for after them nothing is there any more
            await run(parts[2], wanted, tmp_path / "ending"),
        ]
    failed = [said for said in found if said is not None]
    assert failed == [], "\n".join(failed)
