"""What the demo tenant owns: templates and the three journeys, with waits of seconds so that a demo can be watched."""

from typing import Any, Final

TEMPLATES: Final[tuple[dict[str, Any], ...]] = (
    {
        "key": "welcome",
        "channel": "email",
        "name": "Welcome",
        "subject": "Welcome, {{ person.first_name | default: 'friend' }}",
        "body": "<p>Hello {{ person.first_name | default: 'there' }},</p><p>good to have you. "
        'Here is <a href="https://shop.example/start">how to begin</a>.</p>',
        "topic": "news",
    },
    {
        "key": "cart_reminder",
        "channel": "email",
        "name": "Your cart",
        "subject": "Your cart is waiting",
        "body": "<p>Hello {{ person.first_name | default: 'there' }},</p><p>your cart of {{ entry.total }} "
        '{{ entry.currency }} is <a href="https://shop.example/cart">still here</a>.</p>',
        "topic": "news",
    },
    {
        "key": "cart_vip",
        "channel": "email",
        "name": "Your cart, with a gift",
        "subject": "Your cart, and a gift with it",
        "body": "<p>Hello {{ person.first_name | default: 'there' }},</p><p>take 10 % off your cart of "
        "{{ entry.total }} {{ entry.currency }} with the code VIP10.</p>",
        "topic": "news",
    },
    {
        "key": "thank_you",
        "channel": "email",
        "name": "Thank you",
        "subject": "Thank you, {{ person.first_name | default: 'friend' }}",
        "body": "<p>Thank you for your order. Reply to this mail whenever something is not right.</p>",
        "topic": "news",
    },
)

LEAD_FORM: Final[dict[str, Any]] = {
    "key": "lead",
    "name": "Talk to us",
    "fields": [
        {"name": "email", "label": "Email", "type": "email", "required": True, "maps_to": "email"},
        {"name": "first_name", "label": "First name", "type": "text", "maps_to": "first_name"},
        {"name": "news", "label": "Send me news", "type": "checkbox"},
    ],
    "consent": [{"channel": "email", "topic": "news", "field": "news", "wording": "Yes, send me news by mail."}],
    "success_message": "Thank you. We will write to you.",
}

WELCOME: Final[dict[str, Any]] = {
    "subject": "person",
    "entry": {"event": "form.submitted", "again": {"mode": "never"}},
    "start": "greet",
    "nodes": {
        "greet": {"type": "send", "channel": "email", "template": "welcome", "next": "settle"},
        "settle": {"type": "wait", "for": "PT2S", "next": "bought"},
        "bought": {
            "type": "branch",
            "branches": [{"when": {"field": "person.is_customer", "op": "=", "value": True}, "next": "done"}],
            "otherwise": "mark",
        },
        "mark": {"type": "update_person", "set": {"attributes.welcomed": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
    "exit_when": [{"event": "person.unsubscribed"}],
}

ABANDONED_CART: Final[dict[str, Any]] = {
    "subject": "person",
    "entry": {
        "event": "cart.updated",
        "where": {"field": "event.properties.total", "op": ">", "value": 0},
        "key": "event.properties.cart_id",
        "again": {"mode": "when_not_active"},
    },
    "start": "bought",
    "nodes": {
        "bought": {
            "type": "wait_for_event",
            "event": "order.placed",
            "match": {"event.properties.cart_id": "entry.cart_id"},
            "timeout": "PT3S",
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
        "morning": {"type": "wait", "for": "PT1M", "next": "mark"},
        "mark": {"type": "update_person", "set": {"attributes.cart_reminded": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
    "goal": {
        "event": "order.placed",
        "match": {"event.properties.cart_id": "entry.cart_id"},
        "within": "P7D",
    },
    "exit_when": [{"event": "person.unsubscribed"}],
}

CUSTOMER_RETENTION: Final[dict[str, Any]] = {
    "subject": "person",
    "entry": {"api": True, "again": {"mode": "when_not_active"}},
    "start": "pause",
    "nodes": {
        "pause": {"type": "wait", "for": "PT1S", "next": "thanks"},
        "thanks": {"type": "send", "channel": "email", "template": "thank_you", "next": "again"},
        "again": {
            "type": "wait_for_event",
            "event": "order.placed",
            "match": {},
            "timeout": "P30D",
            "matched": "loyal",
            "timed_out": "done",
        },
        "loyal": {"type": "update_person", "set": {"attributes.loyal": True}, "next": "done"},
        "done": {"type": "exit", "reason": "finished"},
    },
    "exit_when": [{"event": "person.unsubscribed"}],
}

JOURNEYS: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("welcome", "Welcome", WELCOME),
    ("abandoned_cart", "Abandoned cart", ABANDONED_CART),
    ("customer_retention", "Customer retention", CUSTOMER_RETENTION),
)
