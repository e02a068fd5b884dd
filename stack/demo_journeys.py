"""The demo's look at journeys: what one did and why, what it would do next, and a way around tried beside it."""

from stack.demo_people import Driver


def explain(driver: Driver, *, person_id: str) -> None:
    """Tell why a passage went as it did."""
    passage = driver.get("/journeys/abandoned_cart/enrollments", person_id=person_id)["items"][-1]
    explained = driver.get(f"/enrollments/{passage['id']}/explain")
    driver.tell("   Why, in its own words:")
    for decision in explained["decisions"]:
        driver.tell(f"     {decision['node']}: {decision['summary']}")


def foretell(driver: Driver, *, person_id: str) -> None:
    """Simulate the journey for him, as its draft stands, on a virtual clock; nothing is sent."""
    asked = {"person_ids": [person_id], "enter": "at_once", "events": "none", "wait_seconds": 30}
    report = driver.call("POST", "/journeys/customer_retention/simulate", asked).json()["report"]
    queued = report["messages"]["queued"]
    driver.tell(f"   Simulated first: {report['entered']} would enter, {queued} mail would go out.")
