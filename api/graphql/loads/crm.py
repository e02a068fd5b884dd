"""Pipelines, deals and tasks, many at once."""

from collections.abc import Collection, Sequence
from uuid import UUID

from api.graphql.loads.newest import Newest
from api.rest.deal_answers import ContactOut, DealOut, DealProductOut, StayOut
from api.rest.pipelines import PipelineOut, StageOut
from api.rest.tasks import TaskOut
from core.database import TenantSession
from models import Deal, Task
from services.crm import deal_directory, history
from services.crm import pipelines as pipeline_service
from services.shared.many import by_ids


class Stay(StayOut):
    """A deal's stay in a stage."""

    id: UUID


async def deals(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, DealOut]:
    """Return deals by their ids."""
    return {key: DealOut.of(shown) for key, shown in (await deal_directory.of_many(session, ids)).items()}


async def tasks(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, TaskOut]:
    """Return tasks by their ids."""
    return {key: TaskOut.model_validate(row) for key, row in (await by_ids(session, Task, ids)).items()}


async def pipelines(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, PipelineOut]:
    """Return pipelines by their ids: there are few enough to read all of them."""
    wanted = set(ids)
    found = await pipeline_service.list_all(session)
    return {each.pipeline.id: PipelineOut.of(each) for each in found if each.pipeline.id in wanted}


async def stages(session: TenantSession, ids: Collection[UUID]) -> dict[UUID, StageOut]:
    """Return stages by their ids, as pipelines."""
    wanted = set(ids)
    found = [PipelineOut.of(each) for each in await pipeline_service.list_all(session)]
    return {stage.id: stage for each in found for stage in each.stages if stage.id in wanted}


async def products(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, list[DealProductOut]]:
    """Return by deal the products in it."""
    found = await deal_directory.lines_of(session, ids)
    return {key: [DealProductOut.of(line, currency) for line, currency in lines] for key, lines in found.items()}


async def contacts(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, list[ContactOut]]:
    """Return by deal who has a part in it beside the primary person."""
    found = await deal_directory.contacts_of(session, ids)
    return {key: [ContactOut.model_validate(each) for each in contacts] for key, contacts in found.items()}


async def stays(session: TenantSession, ids: Sequence[UUID], limit: int, before: UUID | None) -> dict[UUID, list[Stay]]:
    """Return by deal where it was."""
    found = await history.of_deals(session, ids, limit, before)
    return {
        key: [Stay(id=stay_id, **StayOut.of(stay).model_dump()) for stay_id, stay in each]
        for key, each in found.items()
    }


deals_of_people = Newest(Deal, Deal.person_id, deals, (Deal.status,))
deals_of_organizations = Newest(Deal, Deal.organization_id, deals, (Deal.status,))
tasks_of_people = Newest(Task, Task.person_id, tasks, (Task.status,))
tasks_of_organizations = Newest(Task, Task.organization_id, tasks, (Task.status,))
tasks_of_deals = Newest(Task, Task.deal_id, tasks, (Task.status,))
