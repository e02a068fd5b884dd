"""The activity of an erasure: clears what lies outside the store."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError

from contracts.erasure import CLEAR, Cleared, ErasureInput
from core.database import Database
from core.errors import NotFoundError
from integrations.email import files
from services.identity import erasing

HEARTBEAT_SECONDS = 5.0


class ErasureActivities:
    """What an erasure does outside the store, for one process."""

    def __init__(self, database: Database, mail_dir: Path) -> None:
        """Use `database`; `mail_dir` is where this machine's senders write mail files."""
        self._database = database
        self._mail_dir = mail_dir

    def all(self) -> list[Callable[..., Any]]:
        """The activities to register."""
        return [self.clear]

    @activity.defn(name=CLEAR)
    async def clear(self, start: ErasureInput) -> Cleared:
        """Delete the mail files of somebody erased, and note the end once no sender can write another.

        A sender that read a page before the erasure was committed may write its mails after it, until it lets go of
        the page; so who holds one is asked before the files are looked for. Repeating it changes nothing.
        """
        try:
            async with self._database.tenant(start.tenant_id) as session:
                record = await erasing.get(session, start.erasure_id)
                held = await erasing.pages_held(session, record)
        except NotFoundError as error:
            raise ApplicationError(error.detail, type="NotFound", non_retryable=True) from error
        deleted = await self._delete(set(record.message_ids))
        if not held:
            async with self._database.tenant(start.tenant_id) as session:
                await erasing.finish(session, start.erasure_id)
        return Cleared(files=deleted, held=held)

    async def _delete(self, message_ids: set[UUID]) -> int:
        if not message_ids:
            return 0
        deleting = asyncio.create_task(asyncio.to_thread(files.delete_mails, self._mail_dir, message_ids))
        while not (await asyncio.wait({deleting}, timeout=HEARTBEAT_SECONDS))[0]:
            activity.heartbeat()
        return deleting.result()
