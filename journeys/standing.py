"""A cohort's state made from where its members stand, for a workflow that takes them over in the middle of a journey.

Postgres knows where everybody is and since when; from that follows what the planner would know had it brought them
there itself. So members can be given to another workflow, of another version too, with nothing told by the first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from journeys.members import Members, everyone
from journeys.plan import Plan
from journeys.state import Group, Phase, State

MAX_DUES: Final = 500
"""Different times until which members of one cohort may wait before they are bundled: each costs the state a group."""
_STEPS: Final = tuple(timedelta(seconds=seconds) for seconds in (1, 60, 900, 3_600, 86_400))
_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Standing:
    """Members who stand at one passage through a node since the same moment."""

    node: str
    visit: int
    since: datetime
    members: Members
    matched: bool = False
    """Whether the event they wait for has come."""
    listens: bool = False
    """Whether they wait for an event there, whatever the node is about first."""
    again: datetime | None = None
    """When they are to look again, at a node that acts and put them off."""


def state_of(plan: Plan, size: int, standing: Iterable[Standing], *, on_hold: Members, parked: Members) -> State:
    """Return the state of a cohort of `size` whose members stand so; slots that nobody names have left.

    Waits are counted from when members came. Where that makes more than `MAX_DUES` times, close ones become the latest
    of them: nobody goes on too early, and some a little later.
    """
    groups: dict[tuple[str, int, Phase, datetime | None], Members] = {}
    finished: Members = 0
    inside: Members = 0
    for one in standing:
        arrival = plan.arrival(one.node, one.since)
        if arrival is None:
            finished |= one.members
            continue
        phase, due = arrival
        if one.matched:
            phase, due = "matched", None
        elif one.listens and phase == "act":
            phase, due = "hear", None  # it acted, and what it began has not ended
        elif one.again is not None and phase == "act":
            due = one.again
        key = one.node, one.visit, phase, due
        groups[key] = groups.get(key, 0) | one.members
        inside |= one.members
    made = [Group(*key, members) for key, members in groups.items()]
    return State(
        started=True,
        groups=tuple(sorted(_bundled(made), key=_order)),
        on_hold=on_hold & inside,
        parked=parked & inside,
        finished=finished,
        left=everyone(size) & ~inside & ~finished,
    )


def _order(group: Group) -> tuple[str, int, Phase, datetime]:
    return group.node, group.visit, group.phase, group.due or _LONG_AGO


def _bundled(groups: list[Group]) -> list[Group]:
    """Return the groups with so few due times as a state may hold."""
    for step in _STEPS:
        if len(groups) <= MAX_DUES:
            break
        merged: dict[tuple[str, int, Phase, datetime | None], Members] = {}
        for group in groups:
            due = None if group.due is None else _rounded_up(group.due, step)
            key = group.node, group.visit, group.phase, due
            merged[key] = merged.get(key, 0) | group.members
        groups = [Group(*key, members) for key, members in merged.items()]
    return groups


def _rounded_up(due: datetime, step: timedelta) -> datetime:
    return _ZERO - ((_ZERO - due) // step) * step
