"""The passages that a simulation walks, each a slot: who, and what they enter by. Kept in tables of one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Integer, Table, Text, Uuid, bindparam, column, func, select, table, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from core.errors import InvalidError
from journeys import members as member_sets
from models import Person, Tenant

PERSON: Table = Person.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
TENANT: Table = Tenant.__table__  # pyright: ignore[reportAssignmentType]
PASSAGE: Final = table(
    "simulated_passage",
    column("slot", Integer),
    column("number", Integer),
    column("person_id", Uuid),
    column("entry", JSONB),
)
"""A passage: its slot, the number of its person, and the properties that it is entered by."""
AUDIENCE: Final = table("simulated_person", column("number", Integer), column("person_id", Uuid))
"""The people, by their number."""
MAX_PASSAGES: Final = 500_000
_WRITTEN_AT_ONCE: Final = 10_000

_TABLES: Final = (
    "CREATE TEMP TABLE simulated_person (number int, person_id uuid) ON COMMIT DROP",
    "CREATE TEMP TABLE simulated_passage (slot int, number int, person_id uuid, entry jsonb) ON COMMIT DROP",
)
_OF_SEGMENT: Final = """
    INSERT INTO simulated_person
    SELECT row_number() OVER (ORDER BY person_id) - 1, person_id FROM marketing_segment_memberships
    WHERE tenant_id = :tenant AND segment_key = :segment
"""
_NAMED: Final = text("""
    INSERT INTO simulated_person
    SELECT row_number() OVER (ORDER BY n) - 1, id
    FROM (SELECT p.id, min(given.n) AS n FROM unnest(:people) WITH ORDINALITY AS given(id, n)
          JOIN person p ON p.tenant_id = :tenant AND p.id = given.id GROUP BY p.id) AS found
""").bindparams(bindparam("people", type_=ARRAY(Uuid)))
_EACH_ONCE: Final = text("""
    INSERT INTO simulated_passage SELECT number, number, person_id, :entry FROM simulated_person
""").bindparams(bindparam("entry", type_=JSONB))
_WRITE: Final = text("""
    INSERT INTO simulated_passage
    SELECT given.slot, given.number, p.person_id, given.entry
    FROM unnest(:slots, :numbers, :entries) AS given(slot, number, entry)
    JOIN simulated_person p ON p.number = given.number
""").bindparams(
    bindparam("slots", type_=ARRAY(Integer)),
    bindparam("numbers", type_=ARRAY(Integer)),
    bindparam("entries", type_=ARRAY(JSONB)),
)


@dataclass(slots=True)
class Passages:
    """What is known of the passages without asking again."""

    size: int
    """How many slots there are."""
    once: bool
    """Whether everybody has one, whose slot is their number."""
    slots_of: Sequence[Sequence[int]]
    """Each person's slots, by number; empty where `once`."""
    number_of: Sequence[int]
    """Each slot's person; empty where `once`."""
    entries: Sequence[Mapping[str, Any]]
    """What each slot is entered by, or one for all."""

    @property
    def everyone(self) -> int:
        """All slots."""
        return member_sets.everyone(self.size)

    def entry(self, slot: int) -> Mapping[str, Any]:
        """Return the properties a passage is entered by."""
        return self.entries[slot] if len(self.entries) > 1 else self.entries[0]

    def of_person(self, number: int) -> Sequence[int]:
        """Return the slots of a person."""
        return (number,) if self.once else self.slots_of[number]

    def with_siblings(self, members: int) -> int:
        """Return all slots of the people who have these."""
        if self.once:
            return members
        numbers = {self.number_of[slot] for slot in member_sets.slots(members)}
        return member_sets.from_slots(slot for number in numbers for slot in self.slots_of[number])


async def gather(session: TenantSession, *, segment: str | None, person_ids: Sequence[UUID]) -> int:
    """Find the audience, number its people from 0, and return how many they are.

    Raises:
        InvalidError: they are more than a simulation takes.
    """
    for statement in _TABLES:
        await session.execute(text(statement))
    if segment is not None:
        await session.execute(text(_OF_SEGMENT), {"tenant": session.tenant_id, "segment": segment})
    else:
        await session.execute(_NAMED, {"tenant": session.tenant_id, "people": list(person_ids)})
    people = await session.scalar(text("SELECT count(*) FROM simulated_person")) or 0
    if people > MAX_PASSAGES:
        raise InvalidError.of("segment_id", f"holds {people:,} people; a simulation takes {MAX_PASSAGES:,} at most")
    return people


async def each_once(session: TenantSession, people: int, entry: Mapping[str, Any]) -> Passages:
    """Give everybody one passage, entered by the same properties."""
    await session.execute(_EACH_ONCE, {"entry": dict(entry)})
    await _ready(session)
    return Passages(size=people, once=True, slots_of=(), number_of=(), entries=(entry,))


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots that are kept for those who may enter, in their order."""

    entering: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list[tuple[int, Mapping[str, Any]]])
    """Of each slot: whose it is, and the properties that it is entered by."""

    def keep(self, number: int, entry: Mapping[str, Any]) -> int:
        """Return a new slot.

        Raises:
            InvalidError: they are more than a simulation takes.
        """
        if len(self.entering) == MAX_PASSAGES:
            raise InvalidError.of(
                "enter", f"may be more than {MAX_PASSAGES:,} times by then; a simulation takes so many passages at most"
            )
        self.entering.append((number, entry))
        return len(self.entering) - 1


async def written(session: TenantSession, people: int, slots: Slots) -> Passages:
    """Make the passages that slots are kept for."""
    entering = slots.entering
    slots_of: list[list[int]] = [[] for _ in range(people)]
    for slot, (number, _) in enumerate(entering):
        slots_of[number].append(slot)
    for start in range(0, len(entering), _WRITTEN_AT_ONCE):
        page = entering[start : start + _WRITTEN_AT_ONCE]
        await session.execute(
            _WRITE,
            {
                "slots": list(range(start, start + len(page))),
                "numbers": [number for number, _ in page],
                "entries": [dict(entry) for _, entry in page],
            },
        )
    await _ready(session)
    return Passages(
        size=len(entering),
        once=False,
        slots_of=slots_of,
        number_of=[number for number, _ in entering],
        entries=[entry for _, entry in entering] or ({},),
    )


async def _ready(session: TenantSession) -> None:
    await session.execute(text("CREATE UNIQUE INDEX ON simulated_passage (slot)"))
    await session.execute(text("ANALYZE simulated_passage"))


def zone_of(person: Any) -> ColumnElement[str]:  # noqa: ANN401 - a table or an alias
    """Return whose clock a passage goes by: the person's, else the tenant's; `TENANT` must be joined."""
    return func.coalesce(person.c.time_zone, TENANT.c.time_zone, type_=Text)


async def zones(session: TenantSession) -> dict[str, int]:
    """Return the passages by the name of their zone."""
    person = PERSON.alias("p")
    zone = zone_of(person).label("zone")
    rows = await session.execute(
        select(zone, func.array_agg(PASSAGE.c.slot).label("slots"))
        .select_from(
            PASSAGE.join(person, person.c.id == PASSAGE.c.person_id).join(TENANT, TENANT.c.id == session.tenant_id)
        )
        .where(person.c.tenant_id == session.tenant_id)
        .group_by(zone)
    )
    return {row.zone: member_sets.from_slots(row.slots) for row in rows}


async def people_at(session: TenantSession, slots: Sequence[int]) -> dict[int, UUID]:
    """Return who has these slots."""
    rows = await session.execute(
        select(PASSAGE.c.slot, PASSAGE.c.person_id).where(
            PASSAGE.c.slot == func.any(bindparam("slots", list(slots), type_=ARRAY(Integer)))
        )
    )
    return {row.slot: row.person_id for row in rows}
