"""The activities of journeys: contracts in, contracts out, and which failures are final."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.exc import DBAPIError
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.journeys import JourneyActivities
from contracts.journeys import Arrived, ParkRequest, StepRequest, StepResult
from core.database import TenantSession
from core.errors import NotFoundError
from core.ids import new_id
from journeys.nodes import SendNode
from journeys.state import RunKind
from models import Enrollment, Person
from services.journeys import endings, passages
from services.journeys.members import CohortMembers
from services.journeys.steps import Step, StepOutcome
from services.marketing import journey_sends
from tests.factories.marketing import Marketing, Walking, walk
from tests.factories.running import Platform, members

SEND = {"type": "send", "channel": "email", "template": "hello", "next": "wait"}
WAIT = {"type": "wait", "for": "P1D", "until_time": "09:00", "next": "done"}


class Sender:
    """Counts how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def activities(marketing: Marketing, sender: Sender) -> JourneyActivities:
    return JourneyActivities(marketing.database, journey_sends.ACTIONS, sender.wake)


@pytest.fixture
async def cohort(marketing: Marketing) -> Walking:
    await marketing.template("hello")
    return await marketing.walking(walk(send=SEND, wait=WAIT), await marketing.people(5))


def request(cohort: Walking, kind: RunKind, node: str, *slots: int) -> StepRequest:
    return StepRequest(
        cohort=Platform.reference(cohort),
        version_id=cohort.version.id,
        size=cohort.size,
        kind=kind,
        node=node,
        visit=1,
        members=members(cohort, *slots),
    )


async def test_a_step_answers_in_sets_and_wakes_the_sender(
    activities: JourneyActivities, cohort: Walking, sender: Sender
) -> None:
    asked = request(cohort, "act", "send", 0, 1, 2, 4)
    first = await ActivityEnvironment().run(activities.run_step, asked)
    assert first == StepResult(outcomes={"done": "0-2,4"})
    assert sender.woken == 1
    assert await ActivityEnvironment().run(activities.run_step, asked) == first
    planned = await ActivityEnvironment().run(activities.run_step, request(cohort, "plan_wait", "wait"))
    assert sum(len(due.members) > 0 for due in planned.waits) == 1
    assert planned.waits[0].members == "0-2,4"
    assert planned.held == "3", "who has not come to the node is not yet to be planned"
    assert sender.woken == 2, "waits queue no message"


async def test_whose_data_is_at_fault_is_found_out_and_parked_alone(
    activities: JourneyActivities, marketing: Marketing, cohort: Walking
) -> None:
    row = await cohort.row(3)
    async with marketing.refusing([row.id]):
        done = await ActivityEnvironment().run(activities.run_step, request(cohort, "act", "send"))
    assert done == StepResult(outcomes={"done": "0-2,4"}, parked="3")
    assert len(await marketing.messages()) == 4
    assert (await cohort.row(3)).problem == {"error": "P0001: poisoned", "attempt": 1}


async def test_nodes_that_only_act_are_done_in_one_transaction_with_the_one_before(
    activities: JourneyActivities, marketing: Marketing
) -> None:
    await marketing.template("hello")
    nodes = {
        "send": {**SEND, "next": "mark"},
        "mark": {"type": "update_person", "set": {"attributes.sent": True}, "next": "size"},
        "size": {"type": "update_person", "set": {"attributes.size": 3}, "next": "done"},
    }
    walking = await marketing.walking(walk(**nodes), await marketing.people(3))
    asked = request(walking, "act", "send").model_copy(update={"onward": True})
    third = await walking.row(2)
    async with marketing.refusing([third.id]):
        one_by_one = await ActivityEnvironment().run(activities.run_step, asked)
    assert one_by_one == StepResult(outcomes={"done": "0-1"}, parked="2"), "whose data is at fault is looked for alone"
    async with marketing.session() as session:
        await endings.retry(session, Enrollment.id == third.id)
    done = await ActivityEnvironment().run(activities.run_step, asked)
    assert done == StepResult(outcomes={"done": "0-1"}, arrived=(Arrived(node="done", visit=1, members="2"),))
    again = await ActivityEnvironment().run(activities.run_step, asked)
    assert again == StepResult(outcomes={"done": "*"}), "what was recorded, asked for once more"
    for node in ("mark", "size"):
        following = request(walking, "act", node, 2).model_copy(update={"onward": True})
        assert (await ActivityEnvironment().run(activities.run_step, following)).outcomes == {"done": "2"}
    async with marketing.session() as session:
        passage = await passages.steps_of(session, await walking.row(2))
        assert [(step.node, step.outcome) for step in passage] == [
            ("send", "done"),
            ("mark", "done"),
            ("size", "done"),
            ("done", "finished"),
        ]
        assert [step.entered_at for step in passage[1:]] == [step.left_at for step in passage[:-1]]
        person = await session.get_one(Person, (marketing.tenant_id, third.subject_id))
    assert person.attributes.items() >= {"sent": True, "size": 3}.items()
    assert len(await marketing.messages()) == 3


async def test_what_may_end_by_itself_is_tried_again(
    activities: JourneyActivities, marketing: Marketing, cohort: Walking
) -> None:
    async with marketing.refusing([(await cohort.row(3)).id], sqlstate="40001"):
        with pytest.raises(DBAPIError) as failure:
            await ActivityEnvironment().run(activities.run_step, request(cohort, "act", "send"))
    assert not isinstance(failure.value, ApplicationError)
    assert {row.node for row in await cohort.rows()} == {"send"}


async def test_what_cannot_be_done_is_not_tried_again(
    activities: JourneyActivities, marketing: Marketing, cohort: Walking, sender: Sender
) -> None:
    async with marketing.superuser() as connection:
        await connection.execute("UPDATE template SET key = 'gone' WHERE tenant_id = $1", marketing.tenant_id)
    asked = request(cohort, "act", "send")
    for wrong in (asked, asked.model_copy(update={"version_id": new_id()})):
        with pytest.raises(ApplicationError) as failure:
            await ActivityEnvironment().run(activities.run_step, wrong)
        assert (failure.value.non_retryable, failure.value.type) == (True, "NotFound")
    assert sender.woken == 0


async def test_only_what_was_done_with_nodes_that_follow_is_done_again_alone(
    marketing: Marketing, cohort: Walking, sender: Sender
) -> None:
    tried: list[int] = []

    async def refuse(_session: TenantSession, step: Step, _members: CohortMembers, _node: object) -> StepOutcome:
        tried.append(len(step.onward))
        raise NotFoundError("No such template.")

    activities = JourneyActivities(marketing.database, {**journey_sends.ACTIONS, SendNode: refuse}, sender.wake)
    mark = {"type": "update_person", "set": {"attributes.sent": True}, "next": "done"}
    several = await marketing.walking(walk(send={**SEND, "next": "mark"}, mark=mark), await marketing.people(1))
    for walking, runs in ((cohort, [0]), (several, [1, 0])):
        asked = request(walking, "act", "send").model_copy(update={"onward": True})
        with pytest.raises(ApplicationError):
            await ActivityEnvironment().run(activities.run_step, asked)
        assert tried == runs
        tried.clear()


async def test_parking_says_where_each_member_is(activities: JourneyActivities, cohort: Walking) -> None:
    await cohort.run("act", "send", slots=[0])
    asked = ParkRequest(step=request(cohort, "act", "send"), error="no template")
    parked = StepResult(outcomes={"done": "0"}, parked="1-4")
    assert await ActivityEnvironment().run(activities.park_members, asked) == parked
    assert await ActivityEnvironment().run(activities.park_members, asked) == parked
    assert [row.status for row in await cohort.rows()] == ["waiting", *["failed"] * 4]


async def test_the_attempt_is_kept_with_the_step(
    activities: JourneyActivities, marketing: Marketing, cohort: Walking
) -> None:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=7)
    await environment.run(activities.run_step, request(cohort, "act", "send"))
    async with marketing.superuser() as connection:
        attempts = await connection.fetch(
            "SELECT attempt FROM enrollment_step WHERE tenant_id = $1", marketing.tenant_id
        )
    assert {row["attempt"] for row in attempts} == {7}


@pytest.mark.parametrize("is_local", [True, False])
async def test_an_activity_of_its_own_says_that_it_lives(
    activities: JourneyActivities, cohort: Walking, is_local: bool
) -> None:
    told: list[object] = []
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, is_local=is_local, heartbeat_timeout=timedelta(seconds=1))
    environment.on_heartbeat = lambda *details: told.append(details)
    await environment.run(activities.run_step, request(cohort, "act", "send"))
    assert bool(told) is not is_local


async def test_another_tenant_s_cohort_is_not_moved(
    activities: JourneyActivities, other_tenant: Marketing, cohort: Walking
) -> None:
    asked = request(cohort, "act", "send")
    foreign = asked.model_copy(update={"cohort": asked.cohort.model_copy(update={"tenant_id": other_tenant.tenant_id})})
    with pytest.raises(ApplicationError):
        await ActivityEnvironment().run(activities.run_step, foreign)
    assert {row.node for row in await cohort.rows()} == {"send"}
