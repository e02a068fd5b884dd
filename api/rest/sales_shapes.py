"""What reports on sales are asked for."""

import re
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any, Final, cast
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field

from api.fields import Strict
from services.crm.reports.scope import Grouping

_ORDER: Final[tuple[Grouping, ...]] = ("month", "pipeline", "owner")
_MONTH: Final = re.compile(r"[0-9]{4}-[0-9]{2}")


def _month(text: str) -> str:
    try:
        if _MONTH.fullmatch(text) and date.fromisoformat(f"{text}-01"):
            return text
    except ValueError:
        pass
    raise ValueError("must be a month such as 2026-11")


def _split(given: Any) -> Any:  # noqa: ANN401 - whatever the caller sent
    if not isinstance(given, list):
        return given
    return [part for text in cast("list[str]", given) for part in str(text).split(",")]


Month = Annotated[str, AfterValidator(_month)]
"""Such as `2026-11`."""
GroupBy = Annotated[list[Grouping], BeforeValidator(_split), Field(max_length=20)]
"""Names with commas between, or the parameter several times."""


def ordered(given: Iterable[Grouping]) -> list[Grouping]:
    """Return each grouping once, in the order that rows are in."""
    return [name for name in _ORDER if name in set(given)]


def _months() -> list[Grouping]:
    return ["month"]


class AskedMonths(Strict):
    """Which months, whose deals, and by what to tell them apart."""

    since: Annotated[Month | None, Field(alias="from")] = None
    """The first month; the present one unless given."""
    until: Month | None = None
    """The last month; the twelfth unless given."""
    group_by: Annotated[GroupBy, Field(default_factory=_months)]
    """`month`, `pipeline`, `owner`, or some of them with commas between."""
    owner_id: UUID | None = None
    """This teammate's deals alone."""


def first_day(month: str | None) -> date | None:
    """Return the first day of a month."""
    return None if month is None else date.fromisoformat(f"{month}-01")
