"""The demo's part on the tenant's own things and sets of people: what somebody asks for makes him one of a segment."""

from typing import Any, Final

from stack.demo_people import Driver

PRODUCT_REQUEST: Final[dict[str, Any]] = {
    "key": "product_request",
    "name": "Product Request",
    "schema": {
        "type": "object",
        "properties": {
            "productName": {"type": "string", "minLength": 1},
            "quantity": {"type": "integer", "minimum": 1},
            "urgency": {"enum": ["low", "normal", "high"]},
            "reference": {"type": "string"},
        },
        "required": ["productName", "quantity"],
    },
    "unique": ["reference"],
    "indexed": ["quantity"],
    "label_property": "productName",
}
URGENT: Final[dict[str, Any]] = {
    "all": [
        {"field": "person.is_customer", "op": "=", "value": True},
        {
            "related": "record:product_request",
            "where": {
                "all": [
                    {"field": "record:product_request.urgency", "op": "=", "value": "high"},
                    {"field": "record:product_request.quantity", "op": ">=", "value": 50},
                ]
            },
        },
    ]
}
PRIORITY: Final[dict[str, Any]] = {
    "entry": {"segment": "urgent_requests", "on": "entered"},
    "start": "mark",
    "nodes": {
        "mark": {"type": "update_person", "set": {"attributes.priority": True}, "next": "done"},
        "done": {"type": "exit", "reason": "marked"},
    },
}
SEGMENTS: Final[tuple[dict[str, Any], ...]] = (
    {"key": "urgent_requests", "name": "Urgent requests", "kind": "dynamic", "rules": URGENT},
    {
        "key": "top_spenders",
        "name": "The hundred who spent most",
        "kind": "dynamic",
        "refresh": "0 4 * * 1",
        "sql": "SELECT person_id FROM people WHERE total_spent > 0 ORDER BY total_spent DESC LIMIT 100",
    },
)


def prepare(driver: Driver) -> None:
    """Define the object, the segments and the journey; what an earlier run defined is kept."""
    driver.call("POST", "/objects", PRODUCT_REQUEST, fine=(409,))
    for segment in SEGMENTS:
        driver.call("POST", "/segments", segment, fine=(409,))
    journey = {"key": "priority", "name": "Priority", "definition": PRIORITY}
    if driver.call("POST", "/journeys", journey, fine=(409,)).is_success:
        driver.call("POST", "/journeys/priority/publish", {})
    driver.until("the first computation of segments", lambda: _fresh(driver))


def _fresh(driver: Driver) -> bool | None:
    segments = [driver.get(f"/segments/{segment['key']}") for segment in SEGMENTS]
    return None if any(segment["stale"] for segment in segments) else True


def play(driver: Driver, *, run: str, person_id: str) -> None:
    """Write a record, link it, and see him enter the segment and its journey; refresh the one by SQL."""
    driver.tell("7. He asks for a product the shop does not have: a record of the tenant's own kind.")
    wanted = {"productName": "Widget X", "quantity": 100, "urgency": "high", "reference": f"request-{run}"}
    record = driver.call("POST", "/objects/product_request/records", {"properties": wanted}).json()
    link = {
        "from": {"type": "person", "id": person_id},
        "to": {"type": "record", "id": record["id"]},
        "label": "requested",
    }
    driver.call("POST", "/associations", link)
    member = driver.until("his entry into the segment", lambda: _explained(driver, person_id))
    driver.tell(f"   He is in `urgent_requests` since {member['member_since'][11:23]}, and the API says why:")
    for part in member["rules"]["parts"]:
        driver.tell(f"     {part['holds']!s:5} {_short(part['condition'])}")
    driver.until("the segment's journey", lambda: _marked(driver, person_id))
    driver.tell("   The journey that the segment begins has marked him: attributes.priority is true.")
    driver.call("POST", "/segments/top_spenders/refresh")
    members = driver.until("the segment by SQL", lambda: _members(driver, "top_spenders", person_id))
    fresh = driver.get("/segments/freshness")
    driver.tell(
        f"   `top_spenders`, by SQL, has {members} of them. From a cause to the membership: "
        f"{fresh['p50_seconds'] * 1000:.0f} ms (median of {fresh['changes']})."
    )


def _explained(driver: Driver, person_id: str) -> dict[str, Any] | None:
    told = driver.get(f"/segments/urgent_requests/explain/{person_id}")
    return told if told["member"] else None


def _marked(driver: Driver, person_id: str) -> bool | None:
    return driver.get(f"/people/{person_id}")["attributes"].get("priority")


def _members(driver: Driver, key: str, person_id: str) -> int | None:
    members = driver.get(f"/segments/{key}/members", limit="200")["items"]
    return len(members) if person_id in {member["person_id"] for member in members} else None


def _short(condition: dict[str, Any]) -> str:
    if "related" in condition:
        return f"has a {condition['related']} that is urgent and of 50 pieces or more"
    return " ".join(str(condition[name]) for name in ("field", "op", "value") if name in condition)
