"""What a stage requires of a deal that is to enter it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.errors import FieldProblem, InvalidError
from services.crm.stages import Stage


@dataclass(frozen=True, slots=True)
class Beside:
    """What a deal has in other tables."""

    products: bool = False
    contacts: bool = False


_COLUMNS: Final[Mapping[str, str]] = {"primary_person_id": "person_id", "recurring": "recurring_minor"}
"""Of fields whose column has another name."""
_OWN: Final[Mapping[str, Callable[[Mapping[str, Any], Beside], bool]]] = {
    "amount": lambda row, _: row["amount_minor"] > 0,
    "competitors": lambda row, _: bool(row["competitors"]),
    "products": lambda _, beside: beside.products,
    "contacts": lambda _, beside: beside.contacts,
}


def refusal(stage: Stage, row: Mapping[str, Any], beside: Beside) -> InvalidError | None:
    """Return why a deal as it will be cannot enter the stage, naming every field it lacks; None where it can."""
    return _refusal(stage, _missing(stage, row, beside))


def emptied(
    stage: Stage, before: tuple[Mapping[str, Any], Beside], after: tuple[Mapping[str, Any], Beside]
) -> InvalidError | None:
    """Return why a deal that stands in the stage cannot lose what it has, naming the fields; None where it can.

    What it never had, as the stage did not require it when it came, is not asked for.
    """
    had = _missing(stage, *before)
    return _refusal(stage, [field for field in _missing(stage, *after) if field not in had])


def _missing(stage: Stage, row: Mapping[str, Any], beside: Beside) -> list[str]:
    return [field for field in stage.required_fields if not _has(field, row, beside)]


def _refusal(stage: Stage, missing: Sequence[str]) -> InvalidError | None:
    if not missing:
        return None
    return InvalidError(
        f"The stage {stage.key} requires {', '.join(missing)}.",
        errors=[FieldProblem(field, f"is required by the stage {stage.key}") for field in missing],
    )


def _has(field: str, row: Mapping[str, Any], beside: Beside) -> bool:
    if field in _OWN:
        return _OWN[field](row, beside)
    if field.startswith("attributes."):
        return row["attributes"].get(field.removeprefix("attributes.")) is not None
    return row[_COLUMNS.get(field, field)] is not None


def looks_beside(stage: Stage) -> bool:
    """Return whether the stage asks for what stands in other tables."""
    return not {"products", "contacts"}.isdisjoint(stage.required_fields)
