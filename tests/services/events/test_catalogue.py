"""The catalogue names every type that the platform writes, and its examples are true."""

import pytest
from jsonschema_rs import Draft202012Validator

from contracts import events
from contracts.catalogue import CATALOGUE
from contracts.catalogue.shapes import EventType, closed

LOGGED_ALONE = {events.CART_CREATED}
"""Entries of the activity log that are no events."""


def test_every_type_is_in_the_catalogue() -> None:
    constants = {value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}
    types = {value for value in constants if events.TYPE_PATTERN.fullmatch(value)}
    suffixes = {value for value in constants if value.startswith(".")}
    assert types - LOGGED_ALONE <= set(CATALOGUE)
    assert not LOGGED_ALONE & set(CATALOGUE)
    assert {name for name in CATALOGUE if name not in types} == {
        channel + suffix for channel in ("email", "sms", "push", "social") for suffix in suffixes
    }
    assert all(events.TYPE_PATTERN.fullmatch(name) for name in CATALOGUE)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.type)
def test_an_entry_is_whole_and_its_example_fits(entry: EventType) -> None:
    assert entry.written_by, "somebody must write it"
    assert entry.description.endswith(".")
    Draft202012Validator(dict(entry.schema), validate_formats=True).validate(dict(entry.example))
    if entry.platform is not None:
        Draft202012Validator(closed(entry.platform), validate_formats=True).validate(dict(entry.example))
