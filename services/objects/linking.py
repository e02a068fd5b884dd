"""Linking things, many pairs at a time.

Whoever links or parts things holds them first, people last (see `ends.hold`), then writes associations in their order.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Boolean, Text, Uuid

from contracts.events import ASSOCIATION_CREATED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, PlatformError, UnavailableError
from core.ids import new_ids
from models import Association
from services.objects import association_definitions, association_report, associations, ends
from services.objects.association_definitions import Rule
from services.objects.association_report import Link
from services.objects.ends import End, Held, Side

MAX_BATCH: Final = 1_000

_COLUMNS: Final = {f"{side}_{at.column}": at for side in ("from", "to") for at in ends.TYPES.values()}
_INSERT: Final = text(
    f"""
    INSERT INTO association (tenant_id, id, label, from_once, to_once, {", ".join(_COLUMNS)})
    SELECT :tenant AS tenant_id, n.*
    FROM unnest(:ids, :labels, :from_onces, :to_onces, {", ".join(f":{column}s" for column in _COLUMNS)}) AS n
    ON CONFLICT DO NOTHING
    RETURNING id
    """  # noqa: S608 - columns of our table
).bindparams(
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("labels", type_=ARRAY(Text)),
    bindparam("from_onces", type_=ARRAY(Boolean)),
    bindparam("to_onces", type_=ARRAY(Boolean)),
    *(bindparam(f"{column}s", type_=at.array) for column, at in _COLUMNS.items()),
)
# Each part reads one index: what is linked already, and what has its only one.
_STORED: Final = text("""
    SELECT a.id, a.label, a.from_end, a.to_end
    FROM unnest(:froms, :labels, :tos) AS w(from_end, label, to_end)
    JOIN association a
      ON a.tenant_id = :tenant AND a.from_end = w.from_end AND a.label = w.label AND a.to_end = w.to_end
    UNION
    SELECT a.id, a.label, a.from_end, a.to_end
    FROM unnest(:froms, :labels) AS w(from_end, label)
    JOIN association a ON a.tenant_id = :tenant AND a.from_end = w.from_end AND a.label = w.label AND a.from_once
    UNION
    SELECT a.id, a.label, a.from_end, a.to_end
    FROM unnest(:tos, :labels) AS w(to_end, label)
    JOIN association a ON a.tenant_id = :tenant AND a.to_end = w.to_end AND a.label = w.label AND a.to_once
""").bindparams(*(bindparam(name, type_=ARRAY(Text)) for name in ("froms", "labels", "tos")))

_NO_RULE: Final = Rule("", "", from_once=False, to_once=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAssociation:
    """What a caller wants linked, as it was written."""

    from_type: str
    from_id: str
    to_type: str
    to_id: str
    label: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of many."""

    association_id: UUID | None = None
    """None where it was refused."""
    created: bool = False
    """False for one that there was already."""
    error: PlatformError | None = None


async def create(session: TenantSession, new: NewAssociation, *, by: Actor) -> tuple[Association, bool]:
    """Link two things; return the association, and whether it is new.

    Raises:
        InvalidError: a thing is not there, is of a type that the label does not link, or is linked to itself.
        ConflictError: an end may have only one with this label, and has it.
        UnavailableError: others linked and parted the same meanwhile.
    """
    (outcome,) = await create_all(session, [new], by=by)
    if outcome.association_id is None:
        raise outcome.error or UnavailableError("Try again in a moment.")
    return await associations.get(session, outcome.association_id), outcome.created


async def create_all(session: TenantSession, wanted: Sequence[NewAssociation], *, by: Actor) -> list[Outcome]:
    """Link many pairs, each judged alone, the first given first; return what became of each, in their order."""
    outcomes: dict[int, Outcome] = {}
    asked: dict[int, Link] = {}
    for index, (new, new_id) in enumerate(zip(wanted, new_ids(len(wanted)), strict=True)):
        try:
            asked[index] = _read(new, new_id)
        except InvalidError as error:
            outcomes[index] = Outcome(error=error)
    rules = await association_definitions.rules(session, {link.label for link in asked.values()})
    held = await _hold(session, asked.values(), rules)
    fitting: dict[int, Link] = {}
    for index, link in asked.items():
        problems = _problems(link, rules.get(link.label), held)
        if problems:
            outcomes[index] = Outcome(error=_invalid(problems))
        else:
            fitting[index] = Link(link.id, link.label, held.living[link.start], held.living[link.end])
    outcomes |= await _write(session, fitting, rules, held, by=by)
    return [outcomes[index] for index in range(len(wanted))]


def _read(new: NewAssociation, new_id: UUID) -> Link:
    problems: list[FieldProblem] = []
    found: list[End] = []
    for side, kind, key in (("from", new.from_type, new.from_id), ("to", new.to_type, new.to_id)):
        try:
            found.append(End.read(kind, key, side))
        except InvalidError as error:
            problems.extend(error.errors)
    if problems:
        raise _invalid(problems)
    return Link(new_id, new.label, *found)


def _invalid(problems: Sequence[FieldProblem]) -> InvalidError:
    return InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)


async def _hold(session: TenantSession, asked: Collection[Link], rules: Mapping[str, Rule]) -> Held:
    only = [
        end
        for link in asked
        for rule in [rules.get(link.label, _NO_RULE)]
        for end, once in ((link.start, rule.from_once), (link.end, rule.to_once))
        if once
    ]
    return await ends.hold(session, [end for link in asked for end in (link.start, link.end)], alone=only)


def _problems(link: Link, rule: Rule | None, held: Held) -> list[FieldProblem]:
    """Return why things cannot be linked, whatever else is."""
    sides: tuple[tuple[Side, End], ...] = (("from", link.start), ("to", link.end))
    missing = [
        FieldProblem(f"{side}.id", f"there is no such {end.type}") for side, end in sides if end not in held.living
    ]
    if missing:
        return missing
    if held.living[link.start] == held.living[link.end]:
        return [FieldProblem("to", "is the same as from")]
    if rule is None:
        return []
    wanted = {"from": rule.from_type, "to": rule.to_type}
    return [
        FieldProblem(f"{side}.type", f"must be {wanted[side]} for the label {link.label}, and is {held.type_of(end)}")
        for side, end in sides
        if held.type_of(end) != wanted[side]
    ]


class _Taken:
    """What is linked already, in the store and by this batch, and what may have no further association."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = rules
        self._linked: dict[tuple[End, str, End], UUID] = {}
        self._only: dict[tuple[Side, End, str], UUID] = {}

    def add(self, link: Link) -> None:
        """Count it in."""
        self._linked[link.start, link.label, link.end] = link.id
        rule = self._rules.get(link.label, _NO_RULE)
        if rule.from_once:
            self._only["from", link.start, link.label] = link.id
        if rule.to_once:
            self._only["to", link.end, link.label] = link.id

    def judge(self, link: Link) -> Outcome | None:
        """Return what becomes of it because of others; None where they let it be."""
        there = self._linked.get((link.start, link.label, link.end))
        if there is not None:
            return Outcome(there)
        sides: tuple[tuple[Side, End], ...] = (("from", link.start), ("to", link.end))
        for side, end in sides:
            other = self._only.get((side, end, link.label))
            if other is not None:
                reason = f"may have one association labelled {link.label}, and has {other}"
                error = ConflictError(
                    f"The {end.type} {end.id} {reason}.",
                    errors=[FieldProblem(side, reason)],
                    extra={"association_id": str(other)},
                )
                return Outcome(error=error)
        return None


async def _write(
    session: TenantSession, fitting: Mapping[int, Link], rules: Mapping[str, Rule], held: Held, *, by: Actor
) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}
    taken = await _stored(session, fitting.values(), rules)
    new: dict[int, Link] = {}
    for index, link in fitting.items():
        outcome = taken.judge(link)
        if outcome is None:
            new[index] = link
            taken.add(link)
        outcomes[index] = outcome or Outcome(link.id, created=True)
    written = await _insert(session, list(new.values()), rules)
    lost = {index: link for index, link in new.items() if link.id not in written}
    if lost:  # others linked the same things while we did
        taken = await _stored(session, lost.values(), rules)
        again = Outcome(error=UnavailableError("The same things are linked and parted; try again in a moment."))
        outcomes |= {index: taken.judge(link) or again for index, link in lost.items()}
    made = [link for link in new.values() if link.id in written]
    await association_report.log(session, ASSOCIATION_CREATED, made, by=by)
    await association_report.tell(session, ASSOCIATION_CREATED, made, held.objects)
    return outcomes


async def _stored(session: TenantSession, links: Collection[Link], rules: Mapping[str, Rule]) -> _Taken:
    taken = _Taken(rules)
    if links:
        values = {
            "tenant": session.tenant_id,
            "froms": [str(link.start) for link in links],
            "labels": [link.label for link in links],
            "tos": [str(link.end) for link in links],
        }
        for row in await session.execute(_STORED, values):
            taken.add(Link.of(row))
    return taken


async def _insert(session: TenantSession, links: Sequence[Link], rules: Mapping[str, Rule]) -> set[UUID]:
    """Write what is not there yet; return the ids of those written."""
    if not links:
        return set()
    ordered = sorted(links, key=lambda link: (str(link.start), link.label, str(link.end)))
    values: dict[str, Any] = {
        "tenant": session.tenant_id,
        "ids": [link.id for link in ordered],
        "labels": [link.label for link in ordered],
        "from_onces": [rules.get(link.label, _NO_RULE).from_once for link in ordered],
        "to_onces": [rules.get(link.label, _NO_RULE).to_once for link in ordered],
    }
    for side in ("from", "to"):
        for kind, at in ends.TYPES.items():
            found = [link.start if side == "from" else link.end for link in ordered]
            values[f"{side}_{at.column}s"] = [(end.uuid or end.id) if end.type == kind else None for end in found]
    return set(await session.scalars(_INSERT, values))
