"""The search for duplicates, a page at a time: everybody is put under keys, those who share one are compared.

A page is one transaction that also moves the run's `position`, so a search goes on where it was, whatever died. The
run's row is locked meanwhile: a worker taken for dead that is not cannot do a page twice.
"""

import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, TextClause, func, select, text

from core.database import TenantSession
from core.errors import NotFoundError
from core.ids import new_ids
from models import DuplicateRun, Person
from services.identity import likeness
from services.identity.likeness import Likeness, Traits

ACTIVE: Final = ("queued", "running")

PEOPLE_PAGE: Final = 1_000
BLOCK_PAGE: Final = 5_000
"""Blocks looked at in a page; most hold one person."""
PAIR_PAGE: Final = 4_000
"""Pairs compared in a page, before the block that goes past it: a tenth of a second's work."""
CLEAR_PAGE: Final = 20_000
LARGEST_BLOCK: Final = 50
"""A key that more people share says nothing of who is who, and would make pairs by the square."""

_TRAITS: Final = """
    SELECT p.id, p.first_name, p.last_name,
           ARRAY(SELECT ARRAY[i.kind, i.value] FROM person_identifier AS i
                 WHERE i.tenant_id = :tenant AND i.person_id = p.id AND i.kind <> 'anonymous_id') AS identifiers,
           ARRAY(SELECT ARRAY[a.country::text, a.postal_code] FROM address AS a
                 WHERE a.tenant_id = :tenant AND a.subject_type = 'person' AND a.subject_id = p.id
                   AND a.postal_code IS NOT NULL) AS postal_codes,
           ARRAY(SELECT o.organization_id FROM organization_person AS o
                 WHERE o.tenant_id = :tenant AND o.person_id = p.id AND o.ended_on IS NULL) AS organizations
    FROM person AS p
    WHERE p.tenant_id = :tenant
"""
_PEOPLE_AFTER: Final = text(f"{_TRAITS} AND p.id > :after ORDER BY p.id LIMIT :limit")
_PEOPLE_NAMED: Final = text(f"{_TRAITS} AND p.id = ANY(CAST(:ids AS uuid[]))")

_INSERT_BLOCKS: Final = text("""
    INSERT INTO duplicate_block (tenant_id, run_id, block, person_id)
    SELECT :tenant AS tenant_id, :run, b.block, b.person_id
    FROM unnest(CAST(:blocks AS text[]), CAST(:people AS uuid[])) AS b(block, person_id)
    ON CONFLICT DO NOTHING
""")
_NEXT_BLOCKS: Final = text("""
    WITH sized AS (
      SELECT b.block, count(*) AS size FROM duplicate_block AS b
      WHERE b.tenant_id = :tenant AND b.run_id = :run AND b.block > :after
      GROUP BY b.block ORDER BY b.block LIMIT :limit
    ), weighed AS (
      SELECT block, size, sum(CASE WHEN size > :largest THEN 0 ELSE size * (size - 1) / 2 END)
                            OVER (ORDER BY block ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS pairs_before
      FROM sized
    )
    SELECT block, size FROM weighed WHERE coalesce(pairs_before, 0) < :pairs ORDER BY block
""")
_SHARED: Final = text("""
    SELECT array_agg(b.person_id ORDER BY b.person_id) AS people FROM duplicate_block AS b
    WHERE b.tenant_id = :tenant AND b.run_id = :run AND b.block = ANY(CAST(:blocks AS text[]))
    GROUP BY b.block
""")
"""The pairs are made of these here: joined with itself, a table this new has no statistics to be planned by."""
_UPSERT: Final = text("""
    INSERT INTO duplicate_candidate (tenant_id, id, person_a, person_b, score, reasons, run_id)
    SELECT :tenant AS tenant_id, c.id, c.person_a, c.person_b, c.score, c.reasons::jsonb, :run
    FROM unnest(CAST(:ids AS uuid[]), CAST(:people_a AS uuid[]), CAST(:people_b AS uuid[]), CAST(:scores AS integer[]),
                CAST(:reasons AS text[])) AS c(id, person_a, person_b, score, reasons)
    JOIN person AS a ON a.tenant_id = :tenant AND a.id = c.person_a
    JOIN person AS b ON b.tenant_id = :tenant AND b.id = c.person_b
    ORDER BY c.person_a, c.person_b
    ON CONFLICT (tenant_id, person_a, person_b) DO UPDATE
      SET score = excluded.score, reasons = excluded.reasons, run_id = excluded.run_id, updated_at = now()
      WHERE duplicate_candidate.run_id IS DISTINCT FROM excluded.run_id
    RETURNING status
""")
"""What somebody dismissed stays dismissed; a pair that this run has seen under another key is left alone."""
_FORGET: Final = text("""
    DELETE FROM duplicate_candidate WHERE tenant_id = :tenant AND id IN (
      SELECT c.id FROM duplicate_candidate AS c
      WHERE c.tenant_id = :tenant AND c.status = 'open' AND c.run_id IS DISTINCT FROM :run LIMIT :limit)
    RETURNING id
""")
_CLEAR: Final = text("""
    DELETE FROM duplicate_block WHERE tenant_id = :tenant AND ctid = ANY(ARRAY(
      SELECT b.ctid FROM duplicate_block AS b WHERE b.tenant_id = :tenant AND b.run_id = :run LIMIT :limit))
    RETURNING 1
""")


async def advance(session: TenantSession, run_id: UUID) -> bool:
    """Do the next page of a search and move its position; whether nothing is left to do.

    Raises:
        NotFoundError: there is no such search.
    """
    run = await session.get(DuplicateRun, (session.tenant_id, run_id), with_for_update=True, populate_existing=True)
    if run is None:
        raise NotFoundError("No such search.")
    page = _Page(session, run)
    run.updated_at = func.now()
    if run.status not in ACTIVE:
        return await page.clear()
    if run.status == "queued":
        await page.begin()
    elif run.position["phase"] == "scan":
        await page.scan()
    elif run.position["phase"] == "pair":
        await page.pair()
    elif not await page.forget():
        run.status, run.finished_at = "finished", func.now()
    await session.flush()
    return False


async def abandon(session: TenantSession, run_id: UUID, status: str, error: str | None) -> None:
    """Note that a search ended early, unless it has ended already; `advance` then clears what it left."""
    run = await session.get(DuplicateRun, (session.tenant_id, run_id), with_for_update=True, populate_existing=True)
    if run is not None and run.status in ACTIVE:
        run.status, run.error, run.finished_at, run.updated_at = status, error, func.now(), func.now()
        await session.flush()


@dataclass(frozen=True, slots=True)
class _Page:
    session: TenantSession
    run: DuplicateRun

    async def begin(self) -> None:
        """Count whom there is to look at."""
        self.run.people = (
            await self.session.scalar(
                select(func.count()).select_from(Person).where(Person.tenant_id == self.session.tenant_id)
            )
            or 0
        )
        self.run.status, self.run.position = "running", {"phase": "scan", "after": str(UUID(int=0))}

    async def scan(self) -> None:
        """Put the next people under their keys."""
        found = await self._people(_PEOPLE_AFTER, after=UUID(self.run.position["after"]), limit=PEOPLE_PAGE)
        blocks = [(self._hash(key), person) for person, traits in found.items() for key in likeness.keys(traits)]
        if blocks:
            blocks.sort()
            given = {"blocks": [block for block, _ in blocks], "people": [person for _, person in blocks]}
            await self.session.execute(_INSERT_BLOCKS, {"tenant": self.session.tenant_id, "run": self.run.id, **given})
        self.run.scanned += len(found)
        if len(found) < PEOPLE_PAGE:
            self.run.position = {"phase": "pair", "after": ""}
        else:
            self.run.position = {"phase": "scan", "after": str(max(found))}

    def _hash(self, key: str) -> str:
        return blake2b(key.encode(), digest_size=12, key=self.run.id.bytes).hexdigest()

    async def pair(self) -> None:
        """Compare those who share one of the next keys."""
        blocks = await self._execute(
            _NEXT_BLOCKS,
            after=self.run.position["after"],
            limit=BLOCK_PAGE,
            largest=LARGEST_BLOCK,
            pairs=PAIR_PAGE,
        )
        if not blocks:
            self.run.position = {"phase": "forget"}
            return
        self.run.skipped += sum(row.size > LARGEST_BLOCK for row in blocks)
        shared = [row.block for row in blocks if 1 < row.size <= LARGEST_BLOCK]
        if shared:
            rows = await self._execute(_SHARED, blocks=shared)
            await self._compare({pair for row in rows for pair in itertools.combinations(row.people, 2)})
        self.run.position = {"phase": "pair", "after": blocks[-1].block}

    async def _compare(self, pairs: Collection[tuple[UUID, UUID]]) -> None:
        people = await self._people(_PEOPLE_NAMED, ids=list({person for pair in pairs for person in pair}))
        alike: list[tuple[UUID, UUID, Likeness]] = []
        for a, b in pairs:
            if a in people and b in people:  # gone since they were scanned, merged or erased
                found = likeness.compare(people[a], people[b])
                if found.score >= likeness.CANDIDATE:
                    alike.append((a, b, found))
        self.run.compared += len(pairs)
        if alike:
            kept = await self._execute(
                _UPSERT,
                ids=new_ids(len(alike)),
                people_a=[a for a, _, _ in alike],
                people_b=[b for _, b, _ in alike],
                scores=[found.score for _, _, found in alike],
                reasons=[json.dumps([reason.as_json() for reason in found.reasons]) for _, _, found in alike],
            )
            self.run.found += sum(row.status == "open" for row in kept)

    async def forget(self) -> bool:
        """Drop a page of open candidates that this search, which saw everybody, has not found; whether there were."""
        return bool(await self._execute(_FORGET, limit=CLEAR_PAGE))

    async def clear(self) -> bool:
        """Drop a page of what the search needed; whether that was all."""
        return len(await self._execute(_CLEAR, limit=CLEAR_PAGE)) < CLEAR_PAGE

    async def _people(self, statement: TextClause, **parameters: object) -> Mapping[UUID, Traits]:
        rows = (await self.session.execute(statement, {"tenant": self.session.tenant_id, **parameters})).all()
        return {row.id: _traits(row) for row in rows}

    async def _execute(self, statement: TextClause, **parameters: object) -> Sequence[Row[Any]]:
        given = {"tenant": self.session.tenant_id, "run": self.run.id, **parameters}
        return (await self.session.execute(statement, given)).all()


def _traits(row: Row[Any]) -> Traits:
    return likeness.traits(
        row.first_name, row.last_name, _pairs(row.identifiers), _pairs(row.postal_codes), row.organizations
    )


def _pairs(rows: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    return [(first, second) for first, second in rows]
