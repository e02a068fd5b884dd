import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from journeys.members import MAX_SLOTS, Members, MembersError, count, decode, encode, everyone, from_slots, slots


def every(step: int, start: int, length: int) -> set[int]:
    return set(range(start, start + length, step))


sets_of_slots = st.one_of(
    st.sets(st.integers(0, 300)),
    st.builds(every, st.integers(1, 9), st.integers(0, 500), st.integers(0, 2000)),
)


class Box(BaseModel):
    members: Members


@given(sets_of_slots, st.integers(0, 50))
def test_a_set_survives_its_text(wanted: set[int], spare: int) -> None:
    size = max(wanted, default=0) + 1 + spare
    members = from_slots(wanted)
    assert slots(members) == sorted(wanted)
    assert count(members) == len(wanted)
    assert decode(encode(members, size), size) == members
    assert Box.model_validate_json(Box(members=members).model_dump_json()).members == members


@given(sets_of_slots)
def test_the_text_is_the_shortest_of_the_three(wanted: set[int]) -> None:
    members = from_slots(wanted)
    size = members.bit_length()
    text = encode(members, size)
    bits = "b64:" + base64.b64encode(members.to_bytes((size + 7) // 8, "little")).decode()
    runs: list[list[int]] = []
    for slot in sorted(wanted):
        if runs and runs[-1][1] == slot - 1:
            runs[-1][1] = slot
        else:
            runs.append([slot, slot])
    ranges = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    assert len(text) == min(len(bits), len(ranges), 1 if members == everyone(size) and size else len(bits))


@pytest.mark.parametrize(
    ("members", "size", "text"),
    [
        (everyone(5), 5, "*"),
        (everyone(5), 6, "0-4"),
        (0, 6, ""),
        (0, 0, ""),
        (from_slots([*range(100), 105, *range(200, 211)]), 10_000, "0-99,105,200-210"),
        (from_slots(range(0, 48, 2)), 48, "b64:VVVVVVVV"),
    ],
)
def test_a_text_looks_like_this(members: int, size: int, text: str) -> None:
    assert encode(members, size) == text
    assert decode(text, size) == members


@pytest.mark.parametrize(
    "text",
    [
        *("x", "-", "1-", "-1", "1,,2", "1, 2", ",", "3-1", "1,1", "1-5,5", "5,1", "10", "0-10", "99999999", "9999999"),
        *("b64:!", "b64:A", "b64:AAQ=", "b64:" + "A" * MAX_SLOTS, "\N{ARABIC-INDIC DIGIT ONE}", "0-4 ", "**", "0\n"),
    ],
)
def test_a_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(MembersError):
        decode(text, 10)


@pytest.mark.parametrize("value", ["5-1", -1, True, None, 1.0, ["1"]])
def test_a_model_refuses_what_is_no_set(value: object) -> None:
    with pytest.raises(ValidationError):
        Box.model_validate({"members": value})


@given(st.text(max_size=30))
def test_any_text_is_a_set_or_refused(text: str) -> None:
    try:
        members = decode(text, 64)
    except MembersError:
        return
    assert 0 <= members <= everyone(64)


def test_a_set_beyond_its_cohort_is_refused() -> None:
    with pytest.raises(MembersError):
        encode(0b1000, 3)
    with pytest.raises(MembersError):
        decode("*", MAX_SLOTS + 1)
    with pytest.raises(MembersError):
        decode("*", -1)
    for slot in (-1, MAX_SLOTS):
        with pytest.raises(MembersError):
            from_slots([slot])
