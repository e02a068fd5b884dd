"""Taking a file in as it arrives: a piece a transaction, so that a slow sender holds none open."""

import json
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError
from models import PeopleImport
from services.identity import import_files, imports
from services.identity.import_kinds import KINDS, OF_PEOPLE, Contents, Kinds
from services.identity.import_rows import storable

Begin = Callable[[], AbstractAsyncContextManager[TenantSession]]
"""Opens a transaction that commits when its block ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What is said about a file."""

    file_name: str | None = None
    content_type: str | None = None
    contents: Contents = OF_PEOPLE
    kinds: Kinds = field(default_factory=lambda: KINDS)
    """Among which that of the contents is."""
    mapping: Mapping[str, str | None] | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    start: bool = False
    """Whether to begin without waiting to be told."""


async def receive(begin: Begin, content: AsyncIterable[bytes], upload: Upload, *, by: Actor) -> PeopleImport:
    """Keep the file and return its import; where it cannot be read, nothing is kept.

    Raises:
        InvalidError: an option, the mapping or the file's beginning is not acceptable.
    """
    async with begin() as session:
        made = await imports.create(
            session,
            options=upload.options,
            file_name=upload.file_name,
            contents=upload.contents,
            kinds=upload.kinds,
            by=by,
        )
    try:
        return await _keep(begin, made.id, content, upload, by=by)
    except BaseException:
        async with begin() as session:
            await imports.discard(session, made.id)
        raise


async def _keep(
    begin: Begin, import_id: UUID, content: AsyncIterable[bytes], upload: Upload, *, by: Actor
) -> PeopleImport:
    pieces = import_files.Pieces()
    head, size, number = b"", 0, 0

    async def keep(arrived: list[bytes]) -> None:
        nonlocal head, size, number
        for piece in arrived:
            head = head or piece
            async with begin() as session:
                await import_files.keep(session, import_id, number, piece)
            size += len(piece)
            number += 1

    async for data in content:
        await keep(pieces.add(data))
    await keep(pieces.end())
    async with begin() as session:
        found = await imports.uploaded(
            session,
            import_id,
            size=size,
            head=head,
            content_type=upload.content_type,
            mapping=upload.mapping,
            kinds=upload.kinds,
            by=by,
        )
        if upload.start:
            found = await imports.start(session, import_id, contents=upload.contents, kinds=upload.kinds, by=by)
        return found


def parsed_object(text: str | None, name: str) -> dict[str, Any] | None:
    """Return the JSON object that a form or a query gives as text.

    Raises:
        InvalidError: naming `name`.
    """
    if text is None or not text.strip():
        return None
    try:
        value: object = json.loads(text)
        sound = storable(value)
    except RecursionError as error:
        raise InvalidError.of(name, "nests too deeply") from error
    except ValueError as error:
        raise InvalidError.of(name, "is not JSON") from error
    if not sound:
        raise InvalidError.of(name, "holds a character that cannot be stored (NUL or half a pair)")
    if not isinstance(value, dict):
        raise InvalidError.of(name, "must be a JSON object")
    return {str(key): item for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # JSON
