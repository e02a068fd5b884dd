"""Which deals a report is about, and by what its figures are told apart."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import BindParameter, bindparam, exists, select
from sqlalchemy.types import Uuid

from core.database import TenantSession
from core.errors import InvalidError, NotFoundError
from models import Pipeline

Grouping = Literal["month", "owner", "pipeline"]
MAX_ROWS: Final = 10_000
"""Rows of figures in one report."""


class Group(NamedTuple):
    """By what figures are told apart; None too where the report does not tell by it."""

    month: date | None = None
    """Its first day."""
    owner_id: UUID | None = None
    pipeline_id: UUID | None = None
    pipeline: str | None = None
    """Its key."""

    @property
    def order(self) -> tuple[date, str, str]:
        """Where it stands in a report: by month, pipeline and owner, deals of nobody last."""
        return self.month or date.max, self.pipeline or "", "~" if self.owner_id is None else str(self.owner_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The deals of a pipeline, of an owner, or all."""

    pipeline_id: UUID | None = None
    owner_id: UUID | None = None

    @property
    def where(self) -> str:
        """The condition on `deal d`, beginning with AND where there is one."""
        return (
            f"{'' if self.pipeline_id is None else 'AND d.pipeline_id = :pipeline'}"
            f" {'' if self.owner_id is None else 'AND d.owner_id = :owner'}"
        )

    @property
    def parameters(self) -> list[BindParameter[Any]]:
        """What the condition binds."""
        given = {"pipeline": self.pipeline_id, "owner": self.owner_id}
        return [bindparam(name, value, type_=Uuid) for name, value in given.items() if value is not None]

    async def check(self, session: TenantSession) -> None:
        """Refuse a pipeline that is not there.

        Raises:
            NotFoundError: no such pipeline in this tenant.
        """
        if self.pipeline_id is None:
            return
        there = exists().where(
            Pipeline.tenant_id == session.tenant_id, Pipeline.id == self.pipeline_id, Pipeline.deleted_at.is_(None)
        )
        if not await session.scalar(select(there)):
            raise NotFoundError("No such pipeline.")


def check_rows(rows: Collection[object]) -> None:
    """Refuse a report that is too long to be read.

    Raises:
        InvalidError: naming `group_by`.
    """
    if len(rows) > MAX_ROWS:
        raise InvalidError.of("group_by", f"makes more than {MAX_ROWS:,} rows: ask for less time, or one owner's deals")
