"""Pipelines, deals and tasks."""

from typing import Any

import strawberry

from api.graphql.fields import many, one, some
from api.graphql.loads import crm as loads
from api.graphql.loads import marketing
from api.graphql.loads import people as people_loads
from api.graphql.names import ASSOCIATION, DEAL, ENROLLMENT, ORGANIZATION, PERSON
from api.graphql.objects import associated
from api.graphql.people import ENROLLMENT_STATUS, TASK_STATUS
from api.graphql.shapes import called, shaped
from api.rest.deal_answers import ContactOut, DealOut, DealProductOut, RecurringOut
from api.rest.pipelines import PipelineOut, StageOut, StageRuleOut
from api.rest.tasks import TaskOut


def _key_of(name: str) -> Any:  # noqa: ANN401 - a field
    def resolve(root: Any) -> str:  # noqa: ANN401 - a model
        return getattr(root, name)

    return strawberry.field(resolver=resolve)


called({RecurringOut: "DealRecurring"})


@shaped(StageRuleOut)
class StageRule:
    """What a stage does by itself, and the journey that it is."""


@shaped(StageOut)
class Stage:
    """A stage of a pipeline."""


@shaped(PipelineOut)
class Pipeline:
    """A pipeline with its stages."""


@shaped(DealProductOut)
class DealProduct:
    """Some pieces of a product in a deal."""


@shaped(ContactOut)
class DealContact:
    """A person who has a part in a deal beside the primary one."""

    person = one(PERSON, people_loads.people, "person_id", "people:read")


@shaped(loads.Stay, omit=("stage", "pipeline"))
class DealStay:
    """A deal's stay in a stage."""

    stage_key = _key_of("stage")
    pipeline_key = _key_of("pipeline")


@shaped(TaskOut)
class Task:
    """What a teammate is to do."""

    person = one(PERSON, people_loads.people, "person_id", "people:read")
    organization = one(ORGANIZATION, people_loads.organizations, "organization_id", "organizations:read")
    deal = one(DEAL, loads.deals, "deal_id", "deals:read")


@shaped(DealOut, omit=("stage", "pipeline"))
class Deal:
    """A deal."""

    pipeline_key = _key_of("pipeline")
    stage_key = _key_of("stage")
    pipeline = one(Pipeline, loads.pipelines, "pipeline_id", "pipelines:read")
    stage = one(Stage, loads.stages, "stage_id", "pipelines:read")
    primary_person = one(PERSON, people_loads.people, "primary_person_id", "people:read")
    organization = one(ORGANIZATION, people_loads.organizations, "organization_id", "organizations:read")
    products = some(DealProduct, loads.products, "deals:read")
    contacts = some(DealContact, loads.contacts, "deals:read", description="Who else has a part in it.")
    stays = many(DealStay, loads.stays, "deals:read", description="Where it was and is, the last stage first.")
    tasks = many(Task, loads.tasks_of_deals, "tasks:read", filters={"status": TASK_STATUS}, description="Newest first.")
    enrollments = many(
        ENROLLMENT,
        marketing.enrollments_of_deals,
        "journeys:read",
        filters={"status": ENROLLMENT_STATUS},
        description="Passages through what its stages do, the last entered first.",
    )
    associations = associated(ASSOCIATION, "deal")
