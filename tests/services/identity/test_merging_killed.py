"""`kill -9` in the middle of a merge, or of its undoing: it happened wholly or not at all."""

import asyncio
import sys
from uuid import UUID

from models import PersonMerge
from services.identity import aliases, merging
from tests.factories.marketing import Marketing
from tests.services.identity.merging import contents, orphans
from tests.services.identity.test_merging import two_with_everything

NEVER = 1_000_000
MERGE, UNDO = 36, 20
"""About how many statements each takes; at least so many, and what is killed before has not committed."""


async def run(marketing: Marketing, verb: str, *ids: UUID, most: int) -> int | None:
    """Have a process do it; return how many statements it sent, None where it was killed on the way."""
    command = ["-m", "tests.services.identity.merge_process", marketing.url, str(marketing.tenant_id), verb, str(most)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, *map(str, ids), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == -9
    return int(output) if output else None


PARTS = (0.5, 0.95)
"""How much of it is done when it is killed."""


async def test_a_killed_merge_is_whole_or_not_at_all(marketing: Marketing) -> None:
    winner, loser = await two_with_everything(marketing)
    async with marketing.session() as session:
        before = await contents(session)
    for part in PARTS:
        assert await run(marketing, "merge", winner, loser, most=int(MERGE * part)) is None
        async with marketing.session() as session:
            assert await contents(session) == before
    sent = await run(marketing, "merge", winner, loser, most=NEVER)
    assert sent is not None
    assert sent >= MERGE
    merged = await the_merge(marketing, loser)
    async with marketing.session() as session:
        assert await aliases.resolve(session, loser) == winner
        assert await orphans(session) == {}
        after = await contents(session)
    for part in PARTS:
        assert await run(marketing, "undo", merged.id, most=int(UNDO * part)) is None
        async with marketing.session() as session:
            assert await contents(session) == after
    sent = await run(marketing, "undo", merged.id, most=NEVER)
    assert sent is not None
    assert sent >= UNDO
    async with marketing.session() as session:
        assert await aliases.resolve(session, loser) == loser
        assert await orphans(session) == {}


async def the_merge(marketing: Marketing, loser: UUID) -> PersonMerge:
    async with marketing.session() as session:
        merges = await merging.page(session, limit=10, before=None, person_id=loser)
    return next(merged for merged in merges if merged.loser_id == loser)
