"""Whether the nodes that wait make sense: the fields, conditions and segments they name."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from journeys.checking import Place, Problem, Vocabulary, check_condition, field_problem, problem_at, segment_problem
from journeys.waits import MET, ConditionWay, EventWay, WaitForEventNode, WaitNode, WaitUntilNode

_DATES = frozenset({"date", "datetime", "text"})


def wait_problems(
    node: WaitNode | WaitForEventNode | WaitUntilNode, place: Place, words: Vocabulary, *, subject: AbstractSet[str]
) -> Iterator[Problem]:
    """Yield what a wait names that does not exist; `subject` are the roots that the journey's subject gives."""
    match node:
        case WaitNode(until=until) if until is not None:
            reason = field_problem(until, words, roots=subject | {"entry"})
            defined = words.typed.get(str(until))
            if reason is None and defined is not None and defined.type not in _DATES:
                reason = f"holds {defined.type}, no date"
            if reason is not None:
                yield problem_at((*place, "until"), reason)
        case WaitForEventNode(where=where) if where is not None:
            yield from check_condition(where, words, roots=subject | {"event"}, place=(*place, "where"))
        case WaitUntilNode():
            yield from _ways(node, place, words, subject)
        case _:
            pass


def events_heard(node: object, place: Place) -> Iterator[tuple[Place, str]]:
    """Yield the types of events that a node waits for, and where it names them."""
    if isinstance(node, WaitForEventNode):
        yield (*place, "event"), node.event
    elif isinstance(node, WaitUntilNode):
        for index, way in enumerate(node.ways):
            if isinstance(way, EventWay):
                yield (*place, "any", index, "event"), way.event


def outcome_place(node: WaitNode | WaitForEventNode | WaitUntilNode, outcome: str) -> Place:
    """Return where a wait names the node that an outcome leads to."""
    if isinstance(node, WaitUntilNode) and outcome.startswith(MET):
        return "any", int(outcome.removeprefix(MET)), "next"
    return ("next",) if outcome == "elapsed" else (outcome,)


def _ways(node: WaitUntilNode, place: Place, words: Vocabulary, subject: AbstractSet[str]) -> Iterator[Problem]:
    for index, way in enumerate(node.ways):
        here = (*place, "any", index)
        match way:
            case ConditionWay(when=when):
                yield from check_condition(when, words, roots=subject | {"entry"}, place=(*here, "when"))
            case EventWay(where=where):
                if where is not None:
                    yield from check_condition(where, words, roots=subject | {"event"}, place=(*here, "where"))
            case _:
                reason = segment_problem(way.segment, words)
                if reason is None and "deal" in subject:
                    reason = "people are in segments, and this is a journey of deals"
                if reason is not None:
                    yield problem_at((*here, "segment"), reason)
