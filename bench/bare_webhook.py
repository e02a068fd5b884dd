"""The reference of `webhooks`: a workflow for each delivery, which posts it and notes that it has."""

from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel
from temporalio import workflow

POST = "post_one"


class One(BaseModel):
    """A delivery."""

    tenant_id: UUID
    delivery_id: UUID
    url: str
    body: str
    secret: str


@workflow.defn
class OneDeliveryWorkflow:
    """Posts one event."""

    @workflow.run
    async def run(self, one: One) -> None:
        """Have it posted."""
        await workflow.execute_activity(POST, one, start_to_close_timeout=timedelta(seconds=30))
