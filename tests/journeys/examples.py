"""Journeys that several tests walk."""

from typing import Any, Final

ABANDONED_CART: Final[dict[str, Any]] = {
    "subject": "person",
    "entry": {
        "event": "cart.updated",
        "where": {"field": "event.properties.total", "op": ">", "value": 0},
        "key": "event.properties.cart_id",
        "again": {"mode": "when_not_active", "min_gap": "PT1H"},
    },
    "start": "bought",
    "nodes": {
        "bought": {
            "type": "wait_for_event",
            "event": "order.placed",
            "match": {"event.properties.cart_id": "entry.cart_id"},
            "timeout": "PT1H",
            "matched": "done",
            "timed_out": "big",
        },
        "big": {
            "type": "branch",
            "branches": [{"when": {"field": "person.attributes.vip", "op": "=", "value": True}, "next": "vip"}],
            "otherwise": "remind",
        },
        "vip": {"type": "send", "channel": "email", "template": "cart_vip", "next": "morning"},
        "remind": {"type": "send", "channel": "email", "template": "cart_reminder", "next": "morning"},
        "morning": {"type": "wait", "for": "P1D", "until_time": "09:00", "zone": "person", "next": "mark"},
        "mark": {"type": "update_person", "set": {"attributes.cart_reminded": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
    "goal": {"event": "order.placed", "match": {"event.properties.cart_id": "entry.cart_id"}, "within": "P7D"},
    "exit_when": [{"event": "person.unsubscribed"}],
}
"""The journey of the language's description: remind of a cart, unless its order comes first."""
