"""A sender that delivers what is queued to a mail server of the test's own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from core.settings import Settings
from sender.policy import Policy
from tests.factories.campaigning import Campaigning
from tests.sender.support import MailServer, sending, serving


@asynccontextmanager
async def mailing(
    desk: Campaigning, settings: Settings, folder: Path, *, policy: Policy | None = None
) -> AsyncGenerator[MailServer]:
    """Run a sender that sends to a server."""
    async with serving(MailServer()) as server:
        own = settings.model_copy(
            update={
                "database_url": desk.marketing.url,
                "smtp_url": server.url,
                "data_dir": folder,
                "mail_dir": folder / "mail",
            }
        )
        async with sending(desk.marketing.database, own, policy=policy):
            yield server
