"""Looking after money that is on its way: refunds no gateway has answered for, payments whose checkout broke off."""

import asyncio
from typing import Final

from core.database import Database
from core.logging import get_logger
from core.settings import Settings
from core.waiting import any_of
from services.commerce import refunding, undoing
from services.commerce.gateways import Gateways

SECONDS: Final = 60.0
"""How often it is looked for."""

log = get_logger(__name__)


async def look_after(database: Database, settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set. Any number may run: whatever is asked of a gateway twice is done once."""
    gateways = Gateways(settings)
    try:
        while not stop.is_set():
            for chore in (refunding.ask_pending, undoing.undo_strays):
                try:
                    await chore(database, gateways)
                except Exception as error:
                    log.warning("payments.delayed", exc_info=error)
            await any_of(stop, seconds=SECONDS)
    finally:
        await gateways.close()
