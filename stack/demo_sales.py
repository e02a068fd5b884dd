"""The demo's part on sales: a deal goes through a pipeline, gets a task on the way, and is won."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from stack.demo_people import Driver

PIPELINE: Final[dict[str, Any]] = {
    "key": "sales",
    "name": "Sales",
    "stages": [
        {"key": "new", "name": "New", "probability": 10},
        {
            "key": "proposal",
            "name": "Proposal",
            "probability": 50,
            "required_fields": ["close_date"],
            "rotting_days": 14,
        },
        {"key": "won", "name": "Won", "kind": "won", "probability": 100},
        {"key": "lost", "name": "Lost", "kind": "lost", "probability": 0},
    ],
}


def prepare(driver: Driver) -> None:
    """Make the pipeline; an earlier run's is kept."""
    driver.call("POST", "/pipelines", PIPELINE, fine=(409,))


def play(driver: Driver, *, person_id: str) -> None:
    """Make a deal, give it a task, win it, and read the board and where it was."""
    driver.tell("11. Sales makes a deal of 10,000.00 EUR with him.")
    pipeline = next(each for each in driver.get("/pipelines")["items"] if each["key"] == PIPELINE["key"])
    stages = {stage["key"]: stage["id"] for stage in pipeline["stages"]}
    close = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    deal = driver.call(
        "POST",
        "/deals",
        {
            "title": "Enterprise Package",
            "pipeline_id": pipeline["id"],
            "primary_person_id": person_id,
            "amount": {"amount": "10000.00", "currency": "EUR"},
            "close_date": close,
        },
    ).json()
    driver.call("POST", f"/deals/{deal['id']}/move", {"stage_id": stages["proposal"]})
    task = driver.call("POST", "/tasks", {"title": "Call about the proposal", "kind": "call", "deal_id": deal["id"]})
    board = driver.get(f"/pipelines/{pipeline['id']}/board")
    column = next(column for column in board["stages"] if column["key"] == "proposal")
    driver.tell(f"   Moved to `proposal`: {_money(column['total'])} there, weighted {_money(column['weighted'])}.")
    driver.call("PATCH", f"/tasks/{task.json()['id']}", {"status": "done"})
    driver.call("POST", f"/deals/{deal['id']}/move", {"stage_id": stages["won"]})
    history = driver.get(f"/deals/{deal['id']}/history")["items"]
    driver.tell(f"   Won, by way of {', '.join(stay['stage'] for stay in history)}.")


def _money(money: dict[str, str]) -> str:
    return f"{money['amount']} {money['currency']}"
