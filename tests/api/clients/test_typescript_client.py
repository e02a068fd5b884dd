"""The TypeScript client, compiled and run by Node against a running API."""

import asyncio
import json
import os
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from integrations.webhooks import signing
from stack.clients import assembling, node

USE = Path(__file__).with_name("use.ts")


@pytest.mark.timeout(300)  # a compiler beside a busy test run
async def test_a_program_that_uses_it_compiles_and_runs(
    document: dict[str, Any], address: str, secret: str, tmp_path: Path
) -> None:
    """Some seconds, for the compiler and all that the program asks of the API."""
    package = tmp_path / "client"
    await asyncio.to_thread(assembling.typescript_client, document, package, besides=USE)
    hook = b'{"id": "1", "type": "order.placed", "timestamp": "2026-11-27T09:00:00+00:00"}'
    hook_secret = signing.PREFIX + b64encode(b"k" * 24).decode()
    environment = {
        "BASE_URL": address,
        "API_KEY": secret,
        "HOOK_BODY": hook.decode(),
        "HOOK_HEADERS": json.dumps(signing.headers("msg_1", datetime.now(UTC), hook, [hook_secret])),
        "HOOK_SECRET": hook_secret,
    }
    process = await asyncio.create_subprocess_exec(
        *node.commands()[0],
        str(package / "dist" / "use.js"),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 45)  # none of its timers, of a minute, keeps it
    assert said.decode().strip().endswith("all is well"), said.decode()
