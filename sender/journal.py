"""What a sender was about when it died: a line per mail before its final dot, and one with the answer. No fsync.

Each process has a folder of its own under the data folder, with a lock file that it holds while it lives and that names
the boot of the machine, and one file per page it is working on. After `kill -9` the files are complete, so only mails
begun and not answered are in doubt. After a crash of the machine they may not be: then nothing can be said.
"""

import errno
import fcntl
import json
import mmap
import os
import shutil
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import UUID, uuid4

from integrations.email.port import Delivery, Outcome

_LOCK: Final = "lock"
_FIRST_ROOM: Final = 128 * 1024
"""Bytes; what a page of 500 mails takes."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Fate(Enum):
    """What can be known of the sender that held a page."""

    ALIVE = auto()
    """It runs on this machine: the page is its own."""
    DEAD = auto()
    """It ended, and its journal tells the truth."""
    LOST = auto()
    """Its journal is elsewhere, or the machine went down with it: any of its mails may have been sent."""


@dataclass(slots=True)
class PageRecord:
    """What a journal says of one page."""

    finished: dict[UUID, Delivery] = field(default_factory=dict[UUID, Delivery])
    begun: set[UUID] = field(default_factory=set[UUID])
    """Begun and not answered."""


class PageJournal:
    """The journal of one page.

    Lines go into the file by memory that is mapped to it, which the kernel keeps when the process is killed: no system
    call for each. What is not yet written of the file is zeros, laid down when it is opened, so that a full disk is
    told there.
    """

    def __init__(self, path: Path) -> None:
        """Open it; what a former attempt wrote stays."""
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end = len(path.read_bytes().rstrip(b"\0"))
        self._size = 0
        self._map = self._with_room(_FIRST_ROOM)

    def _with_room(self, more: int) -> mmap.mmap:
        """Return the file's memory with `more` bytes of room at its end."""
        size = self._end + more
        if os.pwrite(self._file, bytes(more), self._end) != more:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._size = size
        return mmap.mmap(self._file, size)

    def started(self, mail_id: UUID) -> None:
        """Note that a mail is about to be handed over."""
        self._append(f"> {mail_id}\n".encode())

    def finished(self, delivery: Delivery) -> None:
        """Note the answer."""
        told = delivery.provider_id
        if delivery.reason is None and told is not None and told.isprintable() and told.isascii() and "|" not in told:
            fields = f"{delivery.id}|{delivery.outcome}|{delivery.at.isoformat()}|{told}"
        else:
            fields = json.dumps([str(delivery.id), delivery.outcome, delivery.at.isoformat(), told, delivery.reason])
        self._append(f"= {fields}\n".encode())

    def _append(self, line: bytes) -> None:
        end = self._end + len(line)
        if end > self._size:
            self._map.close()
            self._map = self._with_room(_FIRST_ROOM + len(line))
        self._map[self._end : end] = line
        self._end = end

    def close(self, *, recorded: bool) -> None:
        """Close it; once everything is recorded in the store it is not needed any more."""
        self._map.close()
        os.ftruncate(self._file, self._end)
        os.close(self._file)
        if recorded:
            self._path.unlink(missing_ok=True)


class Journal:
    """The journals of this process; a context that holds the lock."""

    def __init__(self, folder: Path) -> None:
        """Choose a name; `folder` is shared by the senders of a machine."""
        self._folder = folder
        self.name = uuid4().hex
        self._lock: int | None = None

    @property
    def owner(self) -> str:
        """What the store calls this sender: `host:journal`."""
        return f"{socket.gethostname()}:{self.name}"

    def __enter__(self) -> Self:
        # Made under a name that nobody looks at, so that it is locked before it is found.
        hidden = self._folder / f".{self.name}"
        hidden.mkdir(parents=True, mode=0o700)
        file = os.open(hidden / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(file, _boot_id().encode())
        hidden.rename(self._folder / self.name)
        self._lock = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        own = self._folder / self.name
        if self._lock is not None:
            if [file.name for file in own.iterdir()] == [_LOCK]:
                shutil.rmtree(own)  # nothing is left to tell
            os.close(self._lock)
            self._lock = None

    def page(self, page_id: UUID) -> PageJournal:
        """Open the journal of a page."""
        return PageJournal(self._folder / self.name / page_id.hex)

    def fate(self, owner: str) -> Fate:
        """Say what became of the sender that the store calls `owner`."""
        name = owner.rpartition(":")[2]
        if name == self.name:
            return Fate.DEAD  # this process, which asks only for pages it no longer works on
        lock = self._folder / name / _LOCK
        if not lock.exists():
            return Fate.LOST
        held = _try_lock(lock)
        if held is None:
            return Fate.ALIVE
        os.close(held)
        return Fate.DEAD if _boot_id() and lock.read_text() == _boot_id() else Fate.LOST

    def read(self, owner: str, page_id: UUID) -> PageRecord:
        """Return what the journal of a dead sender says of a page."""
        path = self._folder / owner.rpartition(":")[2] / page_id.hex
        try:
            text = path.read_text()
        except FileNotFoundError:
            return PageRecord()
        return _parsed(text)

    def forget(self, page_id: UUID) -> None:
        """Drop what this sender itself noted of a page in a former attempt, now recorded."""
        (self._folder / self.name / page_id.hex).unlink(missing_ok=True)

    @contextmanager
    def dead(self) -> Generator[list[str]]:
        """Lend the names of journals whose process ended, and keep other senders from them meanwhile."""
        held: dict[str, int] = {}
        try:
            for folder in self._folder.iterdir():
                lock = None if folder.name.startswith((self.name, ".")) else _try_lock(folder / _LOCK)
                if lock is not None:
                    held[folder.name] = lock
            yield list(held)
        finally:
            for lock in held.values():
                os.close(lock)

    def remove(self, name: str) -> None:
        """Remove a dead sender's journal, which no page needs any more."""
        shutil.rmtree(self._folder / name, ignore_errors=True)


def _parsed(text: str) -> PageRecord:
    record = PageRecord()
    # A line with zeros in it, or without its end, was being written when the process died: the mail was not yet begun.
    for line in text.split("\n")[:-1]:
        if "\0" in line:
            continue
        kind, _, rest = line.partition(" ")
        if kind == ">":
            mail_id = UUID(rest)
            record.begun.add(mail_id)
            record.finished.pop(mail_id, None)  # put off before, and tried again
        else:
            fields = json.loads(rest) if rest.startswith("[") else rest.split("|")
            delivery = Delivery(UUID(fields[0]), Outcome(fields[1]), datetime.fromisoformat(fields[2]), *fields[3:])
            record.finished[delivery.id] = delivery
            record.begun.discard(delivery.id)
    return record


def _try_lock(path: Path) -> int | None:
    """Return the file held locked, None where another process holds it, or it is gone."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _boot_id() -> str:
    """Return what identifies this run of the machine; empty where it does not say."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
