"""`throughline sender --processes N`: several senders that share the work, each replaced when it dies."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from uuid import UUID

import psutil

from core.database import Database
from core.settings import Settings
from tests.sender.support import MailServer, open_pages, queue_for, statuses, until

LONG = 90
"""Seconds: processes start slowly where many do."""
NAMES = [f"p{number}" for number in range(700)]


async def test_senders_share_the_work_and_one_that_dies_is_replaced(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    environment = os.environ | {
        "DATABASE_URL": smtp_settings.database_url,
        "SECRET_KEY": smtp_settings.secret_key.get_secret_value(),
        "SMTP_URL": smtp_settings.smtp_url or "",
        "DATA_DIR": str(smtp_settings.data_dir),
        "MAIL_DIR": str(smtp_settings.mail_dir),
    }
    await queue_for(database, tenant_id, NAMES)
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "sender", "--processes", "2", cwd=Path(__file__).parents[2], env=environment
    )
    try:
        await until(lambda: _received(mail_server, 50), seconds=LONG)
        await until(lambda: _two(running.pid), seconds=LONG)
        killed = psutil.Process(running.pid).children()[0]
        killed.kill()
        await until(lambda: _finished(database, tenant_id), seconds=LONG)
        await until(lambda: _replaced(running.pid, killed.pid), seconds=LONG)
        running.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.wait(), LONG) == 0
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    found = await statuses(database, tenant_id)
    in_doubt = {name for name, (status, _) in found.items() if status == "in_doubt"}
    assert len(in_doubt) <= 20
    assert {status for status, _ in found.values()} <= {"sent", "in_doubt"}
    assert len(mail_server.recipients) == len(set(mail_server.recipients))


async def _two(parent: int) -> bool:
    return len(psutil.Process(parent).children()) == 2


async def _received(server: MailServer, count: int) -> bool:
    return len(server.received) >= count


async def _finished(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0


async def _replaced(parent: int, killed: int) -> bool:
    children = {child.pid for child in psutil.Process(parent).children()}
    return len(children) == 2 and killed not in children
