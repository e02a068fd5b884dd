"""One passage explained: by what it began, what each node decided and saw, and how it stands. From Postgres alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from core.database import TenantSession
from core.errors import NotFoundError
from journeys.arms import ARM, SplitNode
from journeys.evaluate import dig
from journeys.nodes import SKIPPED, BranchNode, ExitNode, Node, SendNode
from journeys.waits import MET, TimeWindowNode, WaitForEventNode, WaitNode, WaitUntilNode
from journeys.wording import condition_words, value_words, wait_words, way_words
from models import Cohort, Enrollment, Event, Journey
from services.journeys import passages, versions
from services.journeys.passages import StepTaken
from services.journeys.seeing import seen_in
from services.journeys.versions import LoadedVersion

_SOURCES: Final = {
    "api": "Let in by a request.",
    "journey": "Let in by a node of another journey.",
    "manual": "Let in by hand.",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """A node passed, or the one where the person stands or ended."""

    step: StepTaken
    type: str
    """Of the node; `unknown` where no version has it any more."""
    summary: str


@dataclass(frozen=True, slots=True)
class Explained:
    """A passage in plain words."""

    enrollment: Enrollment
    journey: Journey
    version: LoadedVersion
    source: str
    """`event`, `api`, `journey`, `manual`...: what let the subject in."""
    event: Event | None
    """The entry event, while it is kept."""
    entered: str
    decisions: Sequence[Decision]
    """Oldest first; the last is where the subject stands, or what ended the passage."""
    summary: str
    """How it stands now."""


async def explain(session: TenantSession, enrollment_id: UUID) -> Explained:
    """Explain a passage.

    Raises:
        NotFoundError: the tenant has none of that id.
    """
    enrollment = await passages.get(session, enrollment_id)
    found = (
        await session.execute(
            select(Journey, Cohort.source)
            .join(Cohort, (Cohort.tenant_id == Journey.tenant_id) & (Cohort.journey_id == Journey.id))
            .where(Journey.tenant_id == session.tenant_id, Cohort.id == enrollment.cohort_id)
        )
    ).one_or_none()
    if found is None:
        raise NotFoundError(f"there is no enrollment {enrollment_id}")
    journey, source = found
    version = await versions.load(session, enrollment.version_id)
    event = None
    if enrollment.entry_event_id is not None:
        event = await session.get(Event, {"tenant_id": session.tenant_id, "id": enrollment.entry_event_id})
    steps = await passages.steps_of(session, enrollment)
    nodes = version.definition.nodes
    decisions = [
        Decision(step, nodes[step.node].type if step.node in nodes else "unknown", _decided(version, step))
        for step in steps[:-1]
    ]
    summary = standing(enrollment, journey, version)
    here = nodes.get(enrollment.node)
    decisions.append(Decision(steps[-1], here.type if here else "unknown", summary))
    entered = f"Entered by {event.type} at {_time(event.occurred_at)}." if event else _by(source, enrollment)
    return Explained(enrollment, journey, version, source, event, entered, decisions, summary)


def _by(source: str, enrollment: Enrollment) -> str:
    if enrollment.entry_event_id is not None:
        return f"Entered by the event {enrollment.entry_event_id}, which is not kept any more."
    return _SOURCES.get(source, f"Let in by: {source}.")


def standing(enrollment: Enrollment, journey: Journey, version: LoadedVersion) -> str:
    """Return how a passage stands now, in one sentence or two."""
    node = version.definition.nodes.get(enrollment.node)
    where = f"`{enrollment.node}`"
    if enrollment.ended_at is not None:
        at = _time(enrollment.ended_at)
        if isinstance(node, ExitNode) and enrollment.status == "completed":
            return f"Came to the end at {where} ({node.reason}) at {at}."
        return f"Ended at {where} at {at}: {enrollment.status}, because of {enrollment.reason}."
    if enrollment.status == "failed":
        return f"Is parked at {where}, which failed: {(enrollment.problem or {}).get('error')}"
    return f"{_stands(enrollment, node, where)}{_held(enrollment, journey, node)}"


def _stands(enrollment: Enrollment, node: Node | None, where: str) -> str:
    until = f" until {_time(enrollment.wake_at)}" if enrollment.wake_at else ""
    match node:
        case WaitNode() | TimeWindowNode():
            return f"Waits at {where}{until} ({wait_words(node)})."
        case WaitUntilNode():
            again = until and f"; it is looked at again{until.replace(' until', ' at')} at the latest"
            return f"Waits at {where} {wait_words(node)}{again}."
        case WaitForEventNode():
            return f"Waits at {where} for {_awaited(node, enrollment.entry)}{until and f', at most{until}'}."
        case _ if enrollment.status == "waiting" or until:
            return f"Waits at {where}{until}."
        case _:
            return f"Is at {where}, which acts next."


def _held(enrollment: Enrollment, journey: Journey, node: Node | None) -> str:
    if enrollment.paused:
        return " Somebody paused this person there."
    if journey.status == "paused":
        return " The journey is paused: no step is taken."
    if journey.sends_paused and isinstance(node, SendNode):
        return " What the journey sends is paused."
    return ""


def _decided(version: LoadedVersion, step: StepTaken) -> str:
    node = version.definition.nodes.get(step.node)
    detail = step.detail or {}
    if step.outcome == SKIPPED:
        if "error" in detail:
            return f"Passed without its doing, by hand, after it had failed: {detail['error']}"
        return "Passed without sending: it was overdue when the journey went on."
    if node is None:
        return f"Left by `{step.outcome}`."
    moved = version.plan.move(step.node, step.visit, step.outcome or "")
    leads = f", to `{moved[0]}`" if moved else ""
    return _waited(node, step, leads) or _chosen(node, step, leads)


def _waited(node: Node, step: StepTaken, leads: str) -> str | None:
    """Return how a wait ended; None for another node, or another way out of one."""
    detail = step.detail or {}
    match node:
        case WaitForEventNode() if step.outcome == "matched":
            return f"{node.event} came (event {detail.get('event_id')}){leads}."
        case WaitForEventNode():
            return f"No {node.event} came{_until(detail)} (for {node.timeout}){leads}."
        case WaitNode() | TimeWindowNode():
            ended = {
                "elapsed": f"Waited{_until(detail)}",
                "past": f"Went on{leads}, as the moment had passed or there was no such date",
                "inside": "Came within the hours",
            }
            said = ended.get(step.outcome or "")
            return f"{said} ({wait_words(node)})." if said else None
        case WaitUntilNode():
            return _until_met(node, step, leads)
        case _:
            return None


def _until_met(node: WaitUntilNode, step: StepTaken, leads: str) -> str:
    outcome = step.outcome or ""
    index = outcome.removeprefix(MET)
    if index == outcome or not index.isdecimal() or int(index) >= len(node.ways):
        return f"Nothing of it came to be so{_until(step.detail or {})} ({wait_words(node)}){leads}."
    event_id = (step.detail or {}).get("event_id")
    by = f" (event {event_id})" if event_id else ""
    return f"It came to be so that {way_words(node.ways[int(index)])}{by}{leads}."


def _chosen(node: Node, step: StepTaken, leads: str) -> str:
    detail = step.detail or {}
    match node:
        case BranchNode():
            return _branched(node, step, leads)
        case SplitNode():
            return f"Fell by chance to the arm {(step.outcome or '').removeprefix(ARM)}{leads}."
        case SendNode() if step.outcome in node.ways:
            return f"Sends by {node.channel} the template {node.sent(detail)}.{_unsent(detail)}"
        case _:
            said = "; ".join(f"{name}: {value_words(value)}" for name, value in detail.items())
            return f"`{node.type}` left by `{step.outcome}`{leads}.{f' It noted {said}.' if said else ''}"


def _branched(node: BranchNode, step: StepTaken, leads: str) -> str:
    seen = seen_in(step.detail)
    outcome = step.outcome or ""
    index = outcome.removeprefix("branch_")
    if index != outcome and index.isdecimal() and int(index) < len(node.branches):
        return f"The condition held{leads}: {condition_words(node.branches[int(index)].when, seen)}."
    several = "no condition held" if len(node.branches) > 1 else "the condition did not hold"
    asked = "; ".join(condition_words(branch.when, seen) for branch in node.branches)
    return f"Went the other way{leads}, as {several}: {asked}."


def _awaited(node: WaitForEventNode, entry: Mapping[str, Any]) -> str:
    pairs = [f"{asked.path[-1]} {value_words(dig(entry, own.path))}" for asked, own in node.match.items()]
    return node.event + (f" with {' and '.join(pairs)}" if pairs else "")


def _until(detail: Mapping[str, Any]) -> str:
    return f" until {_time(datetime.fromisoformat(detail['until']))}" if detail.get("until") else ""


def _unsent(detail: Mapping[str, Any]) -> str:
    return f" Nothing was sent: {detail['not_sent']}." if detail.get("not_sent") else ""


def _time(at: datetime | None) -> str:
    return "an unknown time" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"
