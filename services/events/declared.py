"""What a tenant declares of the types it sends: events that come in are held to it.

Asked with every event that a client sends, so whoever calls keeps what `load` found for some seconds (`api.declared`).
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol
from uuid import UUID

from core.errors import FieldProblem, InvalidError
from services.objects.schemas import Validator, validator

_LOAD: Final = """
SELECT type, schema::text AS schema, on_mismatch FROM event_type WHERE tenant_id = $1 AND declared_at IS NOT NULL
"""
# nobody waits for it but the one whose events did not fit
_NOTE: Final = """
UPDATE event_type e
SET flagged = e.flagged + m.flagged, rejected = e.rejected + m.rejected, misfit_at = now(), misfit = m.problems::jsonb
FROM unnest($2::text[], $3::int[], $4::int[], $5::text[]) AS m(type, flagged, rejected, problems)
WHERE e.tenant_id = $1 AND e.type = m.type AND e.declared_at IS NOT NULL
"""


class Connection(Protocol):
    """What is needed of an asyncpg connection set to the tenant."""

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:
        """Return the rows."""
        ...

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement."""
        ...


@dataclass(frozen=True, slots=True)
class Declaration:
    """What events of one type are held to."""

    schema: Validator
    rejects: bool
    """Whether an event that does not fit is refused; else it is taken, and counted."""


Declarations = Mapping[str, Declaration]
"""By type."""
NOTHING_DECLARED: Final[Declarations] = {}


@dataclass(frozen=True, slots=True)
class Misfit:
    """An event that does not fit."""

    type: str
    rejected: bool
    problems: Sequence[FieldProblem]


class MisfitError(InvalidError):
    """An event is not as its tenant declares events of its type."""

    def __init__(self, found: Misfit) -> None:
        """Say what is wrong with it."""
        super().__init__("; ".join(f"{p.field}: {p.reason}" for p in found.problems[:3]), errors=list(found.problems))
        self.misfit = found


async def load(connection: Connection, tenant_id: UUID) -> Declarations:
    """Return what the tenant declares."""
    rows = await connection.fetch(_LOAD, tenant_id)
    return {
        row["type"]: Declaration(validator(json.loads(row["schema"])), row["on_mismatch"] == "reject") for row in rows
    }


def misfit(declared: Declarations, event_type: str, properties: Mapping[str, Any]) -> Misfit | None:
    """Say how an event differs from what is declared of its type; None where it fits, or nothing is declared."""
    declaration = declared.get(event_type)
    if declaration is None or declaration.schema.fits(properties):
        return None
    return Misfit(event_type, declaration.rejects, declaration.schema.problems(properties))


async def note(connection: Connection, tenant_id: UUID, misfits: Sequence[Misfit]) -> None:
    """Count events that did not fit, and keep what was wrong with the last of each type; one statement."""
    last = {each.type: each for each in misfits}
    counts = Counter((each.type, each.rejected) for each in misfits)
    types = sorted(last)
    await connection.execute(
        _NOTE,
        tenant_id,
        types,
        [counts[name, False] for name in types],
        [counts[name, True] for name in types],
        [json.dumps([asdict(problem) for problem in last[name].problems]) for name in types],
    )
