"""The embedded default: messages go to a folder, one readable file each: `.eml` for mail, `.txt` for the rest."""

import asyncio
import os
import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import UUID

from integrations.email.port import Delivery, Mail, Outcome, Report
from integrations.texts.port import Note

_CHUNK: Final = 50
_ID_LENGTH: Final = 36
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9@._+-]")


class FileSink:
    """Writes mails to `folder`. The name of a file follows from its mail, so writing it again leaves one."""

    repeat_is_harmless = True

    def __init__(self, folder: Path) -> None:
        """Keep the folder; it is made when the first mail comes."""
        self._folder = folder

    async def deliver(self, mails: Iterator[Mail], report: Report, *, expected: int) -> None:  # noqa: ARG002 - the port's
        """Write each mail. See `EmailChannel.deliver`."""
        while chunk := list(islice(mails, _CHUNK)):
            await asyncio.to_thread(self._write, chunk)
            now = datetime.now(UTC)
            for mail in chunk:
                report.finished(Delivery(mail.id, Outcome.SENT, now, provider_id=file_name(mail)))

    def _write(self, mails: list[Mail]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for mail in mails:
            path = self._folder / file_name(mail)
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(mail.readable().encode() if isinstance(mail, Note) else mail.content)
            os.replace(unfinished, path)  # noqa: PTH105 - the one call that is atomic by promise

    async def close(self) -> None:
        """Nothing is held open."""


def file_name(mail: Mail) -> str:
    """Return the name that a person looks for: when, to whom, which message."""
    # The first 48 bits of a UUIDv7 are milliseconds since 1970.
    made = datetime.fromtimestamp((mail.id.int >> 80) / 1000, UTC)
    suffix = "txt" if isinstance(mail, Note) else "eml"
    return f"{made:%Y%m%d-%H%M%S}-{_UNSAFE.sub('_', mail.recipient)[:100]}-{mail.id}.{suffix}"


def delete_mails(folder: Path, mail_ids: AbstractSet[UUID]) -> int:
    """Delete the files of these mails, also unfinished ones; return how many there were."""
    deleted = 0
    if not folder.is_dir():
        return deleted
    wanted = {str(mail_id) for mail_id in mail_ids}
    with os.scandir(folder) as files:
        for file in files:
            stem, _, suffix = file.name.rpartition(".")
            if suffix in {"eml", "txt", "part"} and stem[-_ID_LENGTH:] in wanted:
                Path(file.path).unlink(missing_ok=True)
                deleted += 1
    return deleted
