"""What crosses between an import's workflows and their activities: ids and counts, never a row."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict

WORKFLOW = "people_import"
CHECK_WORKFLOW = "people_import_check"

RUN = "run_people_import"
CHECK = "check_people_import"
FAIL = "fail_people_import"


class Contract(BaseModel):
    """Base of what Temporal carries; fields may be added with a default, never renamed."""

    model_config = ConfigDict(frozen=True)


class ImportRef(Contract):
    """Which import."""

    tenant_id: UUID
    import_id: UUID


class ImportProgress(Contract):
    """How far it has come."""

    done: bool
    """Whether there is nothing left to do, finished or cancelled."""
    bytes_done: int = 0


class ImportFailure(Contract):
    """Why it cannot go on, as a code: the text of an error may hold people's data."""

    ref: ImportRef
    error: str
