"""Scenarios of webhooks, for `tests.histories.record`."""

from datetime import timedelta

import pytest
from pydantic import SecretStr

from core.actor import CLI
from core.ids import new_id
from core.settings import Settings
from services.events.webhooks import endpoints
from services.shared import retrying
from tests.factories.hooking import hooking, telling
from tests.factories.receiving import OK, answering, receiving
from tests.factories.running import Platform


async def webhook(running: Platform) -> str:
    """One that is told, retried, told again, and deleted."""
    marketing = running.marketing
    settings = Settings(
        database_url=marketing.url,
        secret_key=SecretStr("for recording, 32 letters or more"),
        allow_private_hosts=True,
    )
    async with receiving() as receiver:
        hook = await hooking(marketing.database, marketing.tenant_id, settings, receiver.url)
        desk = telling(hook, running.client)
        await hook.happened((new_id(), 1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(retrying, "PAUSES", (timedelta(seconds=1),) * 9)
            async with desk.worker():
                receiver.answer = answering(b"503 Busy")
                handle = await desk.woken()
                await desk.waiting()
                receiver.answer = OK
                await desk.told(1)
                await desk.waiting()
                await hook.happened((new_id(), 2))
                await desk.woken()
                await desk.told(2)
                await desk.waiting()
                async with hook.database.tenant(hook.tenant_id) as session:
                    await endpoints.delete(session, hook.endpoint_id, by=CLI)
                await desk.woken()
                await handle.result()
    return handle.id


SCENARIOS = (webhook,)
