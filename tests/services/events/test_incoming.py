"""What a client may send as an event, case by case."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from core.errors import InvalidError
from services.events.incoming import MAX_PROPERTIES_BYTES, IncomingEvent, amount, check

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ANN = {"email": "ann@shop.example"}


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


def event(**fields: object) -> IncomingEvent:
    given: dict[str, Any] = {"event_type": "page.viewed", "identifiers": ANN, "properties": {}, "now": NOW, **fields}
    return check(**given)


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"event_type": "viewed"}, "type"),
        ({"event_type": ""}, "type"),
        ({"event_type": "Page.viewed"}, "type"),
        ({"event_type": "page."}, "type"),
        ({"event_type": "page..viewed"}, "type"),
        ({"event_type": "page.1viewed"}, "type"),
        ({"event_type": "page.viewed\n"}, "type"),
        ({"event_type": "page." + "v" * 96}, "type"),
        ({"event_type": "person.subscribed"}, "type"),
        ({"event_type": "message.delivered"}, "type"),
        ({"event_type": "journey.entered"}, "type"),
        ({"identifiers": {}}, "person"),
        ({"identifiers": {"email": None, "phone": None}}, "person"),
        ({"identifiers": {"email": "ann"}}, "person.email"),
        ({"identifiers": {"email": ""}}, "person.email"),
        ({"identifiers": {"phone": "030 123"}}, "person.phone"),
        ({"identifiers": {"external_id": " "}}, "person.external_id"),
        ({"identifiers": {"anonymous_id": "x" * 256}}, "person.anonymous_id"),
        ({"identifiers": {"anonymous_id": "a\0b"}}, "person.anonymous_id"),
        ({"occurred_at": NOW + timedelta(hours=1, seconds=1)}, "occurred_at"),
        ({"occurred_at": NOW.replace(tzinfo=None)}, "occurred_at"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "k" * 256}, "idempotency_key"),
        ({"idempotency_key": "a\0"}, "idempotency_key"),
        ({"idempotency_key": "platform:stage:1"}, "idempotency_key"),
        ({"properties": nested(11)}, "properties"),
        ({"properties": {"a": "x" * MAX_PROPERTIES_BYTES}}, "properties"),
        ({"properties": {"a": "é" * (MAX_PROPERTIES_BYTES // 2)}}, "properties"),
        ({"properties": {"a": ["b\0"]}}, "properties"),
        ({"properties": {"b\0": 1}}, "properties"),
        ({"properties": {"a": "\ud800"}}, "properties"),
        ({"properties": {"a": float("nan")}}, "properties"),
        ({"properties": {"a": object()}}, "properties"),
        ({"event_type": "order.placed"}, "properties.currency"),
        ({"event_type": "order.placed", "properties": {"total": "1", "currency": "eur"}}, "properties.currency"),
        ({"event_type": "order.placed", "properties": {"total": "1", "currency": 978}}, "properties.currency"),
        ({"event_type": "order.placed", "properties": {"total": "1", "currency": ["EUR"]}}, "properties.currency"),
        ({"event_type": "order.placed", "properties": {"currency": "EUR"}}, "properties.total"),
        ({"event_type": "order.cancelled", "properties": {"unpaid": "x", "currency": "EUR"}}, "properties.unpaid"),
        ({"event_type": "order.placed", "properties": {"total": "1.234", "currency": "EUR"}}, "properties.total"),
        ({"event_type": "order.placed", "properties": {"total": 1.5, "currency": "JPY"}}, "properties.total"),
        ({"event_type": "order.placed", "properties": {"total": "-1", "currency": "EUR"}}, "properties.total"),
        ({"event_type": "order.placed", "properties": {"total": "1,50", "currency": "EUR"}}, "properties.total"),
        ({"event_type": "order.placed", "properties": {"total": "NaN", "currency": "EUR"}}, "properties.total"),
        ({"event_type": "order.placed", "properties": {"total": "sNaN", "currency": "EUR"}}, "properties.total"),
        ({"event_type": "order.placed", "properties": {"total": "1e30", "currency": "EUR"}}, "properties.total"),
        ({"event_type": "order.placed", "properties": {"total": "1e999999", "currency": "EUR"}}, "properties.total"),
        ({"event_type": "order.placed", "properties": {"total": "1e-999999", "currency": "EUR"}}, "properties.total"),
        ({"event_type": "order.placed", "properties": {"total": True, "currency": "EUR"}}, "properties.total"),
        (
            {"event_type": "order.refunded", "properties": {"total": 1, "currency": "EUR", "order_id": {}}},
            "properties.order_id",
        ),
        (
            {"event_type": "order.refunded", "properties": {"total": 1, "currency": "EUR", "order_id": ""}},
            "properties.order_id",
        ),
    ],
)
def test_bad_input_is_refused_by_the_name_of_its_field(fields: dict[str, Any], at_fault: str) -> None:
    with pytest.raises(InvalidError) as refused:
        event(**fields)
    assert at_fault in [problem.field for problem in refused.value.errors]


def test_every_field_at_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidError) as refused:
        event(event_type="x", identifiers={"email": "x", "phone": "x"}, idempotency_key="")
    assert [problem.field for problem in refused.value.errors] == [
        "type",
        "person.email",
        "person.phone",
        "idempotency_key",
    ]


@pytest.mark.parametrize(
    ("fields", "live"),
    [
        ({}, True),
        ({"backfill": True}, False),
        ({"occurred_at": NOW + timedelta(minutes=59)}, True),
        ({"occurred_at": NOW - timedelta(hours=24)}, True),
        ({"occurred_at": NOW - timedelta(hours=24, seconds=1)}, False),
    ],
)
def test_an_old_or_backfilled_event_starts_nothing(fields: dict[str, Any], live: bool) -> None:
    assert event(**fields).live is live


def test_identifiers_get_their_one_spelling() -> None:
    person = uuid4()
    checked = event(person_id=person, identifiers={"email": " Ann@Shop.Example", "phone": "+49 30 1234567"})
    assert checked.person_id == person
    assert checked.identifiers == (("email", "ann@shop.example"), ("phone", "+49301234567"))


def test_properties_at_the_limits_are_taken() -> None:
    assert event(properties=nested(10)).properties == '{"a":' * 9 + "{}" + "}" * 9
    assert len(event(properties={"a": "x" * (MAX_PROPERTIES_BYTES - 8)}).properties) == MAX_PROPERTIES_BYTES
    assert event(properties={"a": "\\u0000"}).properties == '{"a":"\\\\u0000"}', "a backslash, not a NUL"


@pytest.mark.parametrize(
    ("total", "currency", "minor"),
    [
        ("100.00", "EUR", 10_000),
        (19.99, "EUR", 1_999),
        (0, "EUR", 0),
        ("1.5", "EUR", 150),
        (1200, "JPY", 1_200),
        ("1.234", "KWD", 1_234),
        ("1.2300", "EUR", 123),
    ],
)
def test_amounts_are_exact_in_the_currency_s_smallest_unit(total: object, currency: str, minor: int) -> None:
    assert amount({"total": total, "currency": currency}) == (minor, currency)
