"""What reports on sales are asked for, and what their answers have in common."""

import re
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any, Final, Literal, cast
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field

from api.fields import Strict
from services.crm import rates
from services.crm.reports import losing
from services.crm.reports.periods import Days
from services.crm.reports.scope import Group, Grouping

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
VelocityBy = Annotated[list[Literal["pipeline", "owner"]], BeforeValidator(_split), Field(max_length=20)]
"""The same; open deals have no month."""


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


class AskedDays(Strict):
    """Which days, and whose deals."""

    since: Annotated[date | None, Field(alias="from")] = None
    """The first day; the ninetieth before the last unless given."""
    until: date | None = None
    """The last day; today unless given."""
    owner_id: UUID | None = None
    """This teammate's deals alone."""

    def days(self) -> Days:
        """Return the days.

        Raises:
            InvalidError: naming `from` or `until`.
        """
        return Days.of(self.since, self.until, today=rates.today())


class AskedOutcomes(AskedDays):
    """Which days, whose deals, and by what to tell them apart."""

    group_by: Annotated[GroupBy, Field(default_factory=list[Grouping])]
    """`month` (of closing), `pipeline`, `owner`, or some of them with commas between; all together unless given."""


class AskedVelocity(AskedDays):
    """Which days, whose deals, and by what to tell them apart."""

    group_by: Annotated[VelocityBy, Field(default_factory=list[Literal["pipeline", "owner"]])]
    """`pipeline`, `owner`, or both with a comma between; all together unless given."""


class AskedReasons(AskedDays):
    """Which days, whose deals, and how many reasons."""

    limit: Annotated[int, Field(ge=1, le=losing.MAX_REASONS)] = 50
    """How many reasons, the most frequent ones."""


class OfWhomOut(Strict):
    """By what the figures are told apart; null where the report does not tell by it."""

    owner_id: UUID | None
    """Null too of deals that nobody owns."""
    pipeline_id: UUID | None
    pipeline: str | None
    """Its key."""


def whom(group: Group) -> dict[str, Any]:
    """Return what `OfWhomOut` says of a group."""
    return {"owner_id": group.owner_id, "pipeline_id": group.pipeline_id, "pipeline": group.pipeline}


def first_day(month: str | None) -> date | None:
    """Return the first day of a month."""
    return None if month is None else date.fromisoformat(f"{month}-01")
