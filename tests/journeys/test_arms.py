"""Chance is even, forgets nobody, and is the same each time; shares and keys make sense or are refused."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeys.arms import PLACES, Arm, bounds, chosen, place_of
from journeys.checking import Vocabulary
from journeys.validation import InvalidDefinition, parse, validate
from tests.journeys.strategies import arms

NODES = st.sampled_from(["split", "test-1", "a" * 64])
MANY = 4_000


def split(*ways: tuple[str, int], **of_first: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of an arm
    made: list[dict[str, Any]] = [{"key": key, "share": share, "next": "done"} for key, share in ways]
    made[0] |= of_first
    nodes = {"split": {"type": "split", "arms": made}, "done": {"type": "exit", "reason": "finished"}}
    return {"entry": {"api": True}, "start": "split", "nodes": nodes}


def told(raw: dict[str, Any]) -> dict[str, str]:
    try:
        found = validate(parse(raw), Vocabulary(person_fields=frozenset(), segments=frozenset()), templates={})
    except InvalidDefinition as error:
        found = error.problems
    return {problem.path: problem.reason for problem in found}


@given(journey=st.uuids(), node=NODES, first=st.integers(0, 2**100), raw=arms(st.just("done")))
def test_chance_gives_each_arm_its_share(journey: UUID, node: str, first: int, raw: list[dict[str, Any]]) -> None:
    parts = [Arm.model_validate(arm) for arm in raw]
    # ids that follow one another, as those made at one moment nearly do
    fell = [chosen(parts, place_of(journey, UUID(int=first + n), node)) for n in range(MANY)]
    for part in parts:
        share = part.share / 100
        # six standard deviations: of a million examples not one fails by chance
        assert abs(fell.count(part.key) - MANY * share) <= 6 * (MANY * share * (1 - share)) ** 0.5


@given(journey=st.uuids(), first=st.integers(0, 2**100))
def test_one_split_says_nothing_of_another(journey: UUID, first: int) -> None:
    halves = [
        [place_of(journey, UUID(int=first + n), node) < PLACES // 2 for n in range(MANY)] for node in ("one", "two")
    ]
    both = sum(one and two for one, two in zip(*halves, strict=True))
    assert abs(both - MANY / 4) <= 6 * (MANY * 3 / 16) ** 0.5


@given(raw=arms(st.just("done")))
def test_every_place_is_somebody_s(raw: list[dict[str, Any]]) -> None:
    parts = [Arm.model_validate(arm) for arm in raw]
    assert bounds(parts)[-1] == PLACES
    assert chosen(parts, PLACES - 1) == [part.key for part in parts if part.share][-1]
    assert chosen(parts, 0) == next(part.key for part in parts if part.share)


def test_a_place_never_changes() -> None:
    # Kept for good: people are in arms by it.
    assert [place_of(UUID(int=1), UUID(int=n), "split") for n in range(3)] == [6885, 6272, 3750]


@pytest.mark.parametrize(
    ("raw", "problems"),
    [
        (split(("a", 50), ("b", 50)), {}),
        (split(("a", 0), ("b", 100)), {}),
        (split(("a", 50), ("b", 49)), {"nodes.split": "the shares of the arms add up to 99, not to 100"}),
        (split(("a", 50), ("a", 50)), {"nodes.split": "two of the arms have the key a"}),
        (split(("a", 50), ("b", 50), next="gone"), {"nodes.split.arms.0.next": "there is no node gone"}),
        (split(("a", 100)), {"nodes.split.arms": "Tuple should have at least 2 items after validation, not 1"}),
    ],
)
def test_arms_are_told_apart_and_make_a_whole(raw: dict[str, Any], problems: dict[str, str]) -> None:
    assert told(raw) == problems


def test_one_arm_at_most_is_held_out() -> None:
    raw = split(("a", 50), ("b", 50), holdout=True)
    assert told(raw) == {}
    raw["nodes"]["split"]["arms"][1]["holdout"] = True
    assert told(raw) == {"nodes.split": "only one of the arms can be the holdout"}


@pytest.mark.parametrize(
    ("send", "problems"),
    [
        ({"template": "hello"}, {}),
        ({}, {"nodes.send.template": "a send needs `template` or `variants`, one of them"}),
        ({"variants": [("a", 50), ("b", 40)]}, {"nodes.send": "the shares of the variants add up to 90, not to 100"}),
        ({"variants": [("a", 50), ("b", 50)], "winner": "opens"}, {}),
        (
            {"variants": [("a", 0), ("b", 100)], "winner": "opens"},
            {"nodes.send": "`winner` needs two variants with a share"},
        ),
        ({"template": "hello", "winner": "opens"}, {"nodes.send": "`winner` needs `variants`"}),
        (
            {"variants": [("a", 50), ("b", 50)], "winner": "goal"},
            {"nodes.send.winner.metric": "the journey has no goal"},
        ),
        (
            {"variants": [("a", 50), ("b", 50)], "winner": "clicks", "channel": "push"},
            {"nodes.send.winner.metric": "who clicks is not known of push"},
        ),
    ],
)
def test_variants_make_a_whole_and_their_winner_can_be_known(send: dict[str, Any], problems: dict[str, str]) -> None:
    node: dict[str, Any] = {"type": "send", "channel": "email", "next": "done", **send}
    if "variants" in send:
        node["variants"] = [{"key": key, "template": "hello", "share": share} for key, share in send["variants"]]
    if "winner" in send:
        node["winner"] = {"metric": send["winner"], "window": "P1D"}
    raw = {"entry": {"api": True}, "start": "send", "nodes": {"send": node, "done": {"type": "exit", "reason": "end"}}}
    known = {(channel, "hello"): frozenset[str]() for channel in ("email", "push")}
    try:
        found = validate(parse(raw), Vocabulary(person_fields=frozenset(), segments=frozenset()), templates=known)
    except InvalidDefinition as error:
        found = error.problems
    assert {problem.path: problem.reason for problem in found} == problems
