"""What the rows of an imported file link their records to: looked up by what a column has, and linked."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError
from services.identity import normalize
from services.identity.import_target import Refused
from services.objects import linking
from services.objects.ends import End
from services.objects.linking import NewAssociation
from services.objects.record_columns import RecordRow
from services.objects.record_options import AssociateOption

_PEOPLE: Final = text("""
    SELECT i.value AS name, i.person_id AS id FROM person_identifier i
    WHERE i.tenant_id = :tenant AND i.kind = :kind AND i.value = ANY(:names)
""")
_BY_DOMAIN: Final = text("""
    SELECT o.domain AS name, o.id FROM organization o WHERE o.tenant_id = :tenant AND o.domain = ANY(:names)
""")
_BY_EXTERNAL_ID: Final = text("""
    SELECT o.external_id AS name, o.id FROM organization o WHERE o.tenant_id = :tenant AND o.external_id = ANY(:names)
""")
_DEALS: Final = text("""
    SELECT d.external_id AS name, d.id FROM deal d WHERE d.tenant_id = :tenant AND d.external_id = ANY(:names)
""")
_NAMES: Final = bindparam("names", type_=ARRAY(Text))

Meant = Mapping[tuple[int, str], str]
"""By the option's place and what a cell has: the id of what it means."""


async def resolve(
    session: TenantSession, options: Sequence[AssociateOption], rows: Sequence[RecordRow]
) -> tuple[Meant, list[Refused]]:
    """Return what the rows' links mean; refused are those that mean nothing, each with one reason.

    One statement an option at most. An id is taken as it is: linking looks whether it is there.
    """
    meant: dict[tuple[int, str], str] = {}
    wrong: dict[tuple[int, str], str] = {}
    for number, option in enumerate(options):
        names: dict[str, str] = {}
        for given in {row.links[number] for row in rows if number in row.links}:
            try:
                names[given] = _normal(option, given)
            except InvalidError as error:
                wrong[number, given] = error.errors[0].reason
        found = await _look_up(session, option, sorted(set(names.values())))
        for given, name in names.items():
            if name in found:
                meant[number, given] = found[name]
            else:
                wrong[number, given] = f"there is no such {option.to}"
    refused = [
        Refused(row.line, options[number].column[:100], wrong[number, given])
        for row in rows
        for number, given in row.links.items()
        if (number, given) in wrong
    ]
    return meant, list({each.line: each for each in reversed(refused)}.values())


async def link(
    session: TenantSession,
    options: Sequence[AssociateOption],
    meant: Meant,
    written: Sequence[tuple[RecordRow, UUID]],
    *,
    by: Actor,
) -> list[Refused]:
    """Link the records that rows became; return the rows of which one cannot be."""
    wanted = [(row, record_id, number) for row, record_id in written for number in sorted(row.links)]
    if not wanted:
        return []
    outcomes = await linking.create_all(
        session,
        [
            NewAssociation(
                from_type="record",
                from_id=str(record_id),
                to_type=options[number].to,
                to_id=meant[number, row.links[number]],
                label=options[number].label,
            )
            for row, record_id, number in wanted
        ],
        by=by,
    )
    refused: dict[int, Refused] = {}
    for (row, _, number), outcome in zip(wanted, outcomes, strict=True):
        if outcome.error is not None:
            reason = outcome.error.errors[0].reason if outcome.error.errors else outcome.error.detail
            refused.setdefault(row.line, Refused(row.line, options[number].column[:100], reason))
    return list(refused.values())


def _normal(option: AssociateOption, given: str) -> str:
    if option.by == "id":
        return End.read(option.to, given, option.to).id
    if option.by == "domain":
        return normalize.domain(given)
    return normalize.BY_KIND[option.by](given, option.by)


async def _look_up(session: TenantSession, option: AssociateOption, names: Sequence[str]) -> Mapping[str, str]:
    if option.by == "id" or not names:
        return {name: name for name in names}
    values: dict[str, object] = {"tenant": session.tenant_id, "names": names}
    if option.to == "person":
        statement = _PEOPLE
        values["kind"] = option.by
    elif option.to == "deal":
        statement = _DEALS
    else:
        statement = _BY_DOMAIN if option.by == "domain" else _BY_EXTERNAL_ID
    rows = await session.execute(statement.bindparams(_NAMES).columns(name=Text, id=Uuid), values)
    return {row.name: str(row.id) for row in rows}
