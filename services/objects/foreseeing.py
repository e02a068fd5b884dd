"""What can be said of a record before all its values are known: of what a journey is to write."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from core.database import TenantSession
from models import ObjectDefinition
from services.objects.schemas import Schema, name_problem, validator
from services.objects.shapes import kinds_of


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a definition asks of records that are yet to be."""

    schema: Schema
    unique: AbstractSet[str]
    """The properties of which no two records have the same value."""

    def problems(self, given: Mapping[str, Any], *, placed: AbstractSet[str], whole: bool) -> Iterator[tuple[str, str]]:
        """Yield a property and what is wrong with it, as far as it can be told.

        Args:
            given: What is known of the properties by now; null removes one, unless it may be null by the schema.
            placed: Those whose values come later.
            whole: Whether the record has no others.
        """
        gone = {name for name, value in given.items() if value is None and "null" not in kinds_of(self.schema, name)}
        known = {name: value for name, value in given.items() if name not in gone}
        told = dict[str, str]()
        for name in (*given, *sorted(placed)):
            reason = name_problem(name) or self._unknown(name)
            if reason is not None:
                told[name] = reason
        for name in self.schema.get("required", []):
            if name not in known and name not in placed and (whole or name in gone):
                told[name] = "is required"
        for problem in validator(self.schema).problems(known):
            _, name, *below = (*problem.field.split("."), "")
            if name in known:
                deeper = ".".join(filter(None, below))
                told.setdefault(name, f"{deeper}: {problem.reason}" if deeper else problem.reason)
        yield from told.items()

    def _unknown(self, name: str) -> str | None:
        # What its schema says of names is told by the validator, of those whose values are known.
        open_ended = self.schema.get("additionalProperties", True) is not False or "patternProperties" in self.schema
        return None if open_ended or name in self.schema.get("properties", {}) else "is not a property of this object"


async def rules(session: TenantSession) -> dict[str, Foreseen]:
    """Return what every object of the tenant asks of its records, by its key."""
    rows = await session.execute(
        select(ObjectDefinition.key, ObjectDefinition.schema, ObjectDefinition.unique_properties).where(
            ObjectDefinition.tenant_id == session.tenant_id
        )
    )
    return {row.key: Foreseen(row.schema, frozenset(row.unique_properties)) for row in rows}
