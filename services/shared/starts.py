"""Workflows owed to Temporal: written with their cause, so that a crash can only delay them, never lose one."""

from typing import Final
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import insert

from core.database import TenantSession
from core.ids import new_id
from core.wake import START_CHANNEL
from models import WorkflowStart

IDENTITY: Final = "identity"
MARKETING: Final = "marketing"
CRM: Final = "crm"
COMMERCE: Final = "commerce"
"""Domains, and names of their task queues."""


async def owe(
    session: TenantSession,
    *,
    workflow: str,
    entity_id: UUID,
    input: BaseModel,  # noqa: A002 - Temporal's word
    domain: str = IDENTITY,
    signal: str | None = None,
    queue: str | None = None,
) -> str:
    """Have a workflow started once this transaction has committed; return its id.

    The id is made from the entity's, `workflow/tenant/entity`: owed twice, it runs once. One that runs already is sent
    `signal`, where that is given; one that has ended stays so. It runs on the domain's queue unless `queue` is given.
    """
    workflow_id = f"{workflow}/{session.tenant_id}/{entity_id}"
    await session.execute(
        insert(WorkflowStart),
        [
            {
                "tenant_id": session.tenant_id,
                "id": new_id(),
                "workflow": workflow,
                "workflow_id": workflow_id,
                "queue": queue or domain,
                "domain": domain,
                "input": input.model_dump(mode="json"),
                "signal": signal,
            }
        ],
    )
    session.wake_after_commit(START_CHANNEL)
    return workflow_id
