"""`throughline inbound` as mail servers run it: a process of its own."""

import asyncio
import json
import os
import signal
import smtplib
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from core.database import Database
from core.settings import Settings
from core.tokens import Tokens
from receiver import process
from receiver.server import GRACE_SECONDS
from services.tenancy import tenants
from tests.chaos.hook import Hook
from tests.receiver.support import address_of, bounce, logged, reply, sent_to, status

ROOT = Path(__file__).parents[2]


COMMAND = (sys.executable, "-m", "cli", "inbound")
LIGHT = (sys.executable, "-m", "tests.receiver.inbound_process")


async def started(settings: Settings, *command: str, **changed: str) -> Process:
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        **changed,
    }
    return await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def code_of(
    settings: Settings, raw: bytes, options: Mapping[str, object] | None = None, **changed: str
) -> tuple[int | None, str]:
    """How the process ends that is given the mail, and what it says of it."""
    child = await started(settings, *LIGHT, json.dumps(options or {}), **changed)
    _, said = await child.communicate(raw)
    assert "Traceback" not in said.decode()
    return child.returncode, said.decode()


async def key_of(database: Database, tenant_id: UUID) -> str:
    async with database.tenant(tenant_id) as session:
        return (await tenants.get(session)).key


async def test_a_mail_from_a_pipe(database: Database, tenant_id: UUID, settings: Settings, tokens: Tokens) -> None:
    message_id = await sent_to(database, tenant_id, "ann")
    address = address_of(tokens, tenant_id, message_id)
    raw = bounce("ann@example.com").replace(b"\r\n", b"\n")
    assert await code_of(settings, raw) == (os.EX_NOUSER, "")
    # Neither told the recipient nor the tenant: the header's token says whose it is.
    assert await code_of(settings, raw.replace(b"undisclosed", address.encode())) == (os.EX_OK, "")
    assert await status(database, tenant_id, message_id) == "bounced"
    assert await code_of(settings, raw, {"recipient": address}) == (os.EX_OK, "")
    key = await key_of(database, tenant_id)
    with Hook() as collector:
        traced = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.url}
        assert await code_of(settings, b"From ann\n" + reply(), {"tenant": key}, **traced) == (os.EX_OK, "")
    assert await logged(database, tenant_id) == 1
    ((_, exported),) = collector.bodies
    assert b"throughline-inbound" in exported
    assert b"take mail" in exported


async def test_what_cannot_be_taken(database: Database, tenant_id: UUID, settings: Settings, tokens: Tokens) -> None:
    address = {"recipient": address_of(tokens, tenant_id, uuid4())}
    code, said = await code_of(settings, reply(), {"tenant": "nobody"})
    assert (code, "'nobody'" in said) == (os.EX_NOUSER, True)
    assert await code_of(settings, b"", address) == (os.EX_DATAERR, "")
    code, said = await code_of(settings, reply() + b"x" * 70_000, address, MAX_MAIL_BYTES="65536")
    assert (code, "65536" in said) == (os.EX_DATAERR, True)
    for options in (address, {"tenant": "any"}):
        code, _ = await code_of(settings, reply(), options, DATABASE_URL="postgresql://x@127.0.0.1:1/none")
        assert code == os.EX_TEMPFAIL
    code, said = await code_of(settings, reply(), address, SECRET_KEY="short")
    assert (code, "SECRET_KEY" in said, "short" in said.partition("SECRET_KEY")[2]) == (os.EX_TEMPFAIL, True, False)
    assert await logged(database, tenant_id) == 0


@pytest.mark.parametrize("lmtp", [False, True])
async def test_a_server_until_it_is_told_to_stop(
    database: Database, tenant_id: UUID, settings: Settings, *, lmtp: bool
) -> None:
    key = await key_of(database, tenant_id)
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    child = await started(settings, *COMMAND, "--listen", place, "--tenant", key, *(["--lmtp"] if lmtp else []))
    try:
        assert child.stdout is not None
        assert b"inbound.ready" in await asyncio.wait_for(child.stdout.readline(), 60)
        kind = smtplib.LMTP if lmtp else smtplib.SMTP
        client = await asyncio.to_thread(lambda: kind("127.0.0.1", int(place.partition(":")[2])))
        refused = await asyncio.to_thread(client.sendmail, "ann@example.com", ["us@shop.example"], reply())
        assert refused == {}
        child.send_signal(signal.SIGTERM)
        # a client that is idle is not waited for
        told, said = await asyncio.wait_for(child.communicate(), GRACE_SECONDS)
        assert (child.returncode, said) == (os.EX_OK, b"")
        assert b"example" not in told  # nobody's address is in a log
        client.close()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert await logged(database, tenant_id) == 1


@pytest.mark.parametrize(
    ("listen", "recipient", "lmtp"),
    [
        ("nowhere", None, False),
        (":25", None, False),
        ("127.0.0.1:99999", None, False),
        ("127.0.0.1:0", "a@b.example", False),
        (None, None, True),
    ],
)
def test_what_it_cannot_be_asked_for(
    capsys: pytest.CaptureFixture[str], listen: str | None, recipient: str | None, *, lmtp: bool
) -> None:
    assert process.run(tenant=None, recipient=recipient, listen=listen, lmtp=lmtp) == os.EX_USAGE
    assert capsys.readouterr().err.startswith("throughline: --")


async def test_a_server_for_a_tenant_that_is_not_there(settings: Settings) -> None:
    ended, said = await code_of(settings, b"", {"listen": "127.0.0.1:0", "tenant": "nobody"})
    assert (ended, "'nobody'" in said) == (os.EX_CONFIG, True)


async def test_a_server_whose_port_is_taken(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        assert (await code_of(settings, b"", {"listen": place}))[0] == os.EX_UNAVAILABLE
