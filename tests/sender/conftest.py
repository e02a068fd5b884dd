"""A server to send to, and a database that only the test's own sender reads."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from core.database import Database
from core.settings import Settings
from sender.page_run import PageRun
from tests.sender.support import MailServer, serving


@pytest.fixture
def mail_server_kind() -> type[MailServer]:
    """What server `mail_server` is; a module may have its own."""
    return MailServer


@pytest.fixture
async def mail_server(mail_server_kind: type[MailServer]) -> AsyncGenerator[MailServer]:
    async with serving(mail_server_kind()) as server:
        yield server


@pytest.fixture
def halted(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a sender of this process was told to stop in the midst of a page."""
    told, halt = asyncio.Event(), PageRun.halt

    def tell(run: PageRun) -> None:
        halt(run)
        told.set()

    monkeypatch.setattr(PageRun, "halt", tell)
    return told


@pytest.fixture
async def database(empty_database_url: str) -> AsyncGenerator[Database]:
    """Connections to a database of the test's own: a sender sends what is queued for any tenant."""
    database = Database(empty_database_url)
    yield database
    await database.close()


@pytest.fixture
def smtp_settings(settings: Settings, empty_database_url: str, mail_server: MailServer, tmp_path: Path) -> Settings:
    """Settings of a process that sends to the server."""
    own = {
        "database_url": empty_database_url,
        "smtp_url": mail_server.url,
        "data_dir": tmp_path,
        "mail_dir": tmp_path / "mail",
    }
    return settings.model_copy(update=own)
