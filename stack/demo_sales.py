"""The demo's part on sales: a deal goes through a pipeline whose stages act by themselves, and is won."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from stack.demo_access import OWNER_EMAIL
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
            "automation": [
                {
                    "key": "follow_up",
                    "on": "enter",
                    "then": [
                        {"type": "assign_owner", "among": [OWNER_EMAIL], "only_without": True},
                        {
                            "type": "create_task",
                            "title": "Call about {{ deal.title }}",
                            "kind": "call",
                            "due_in": "P2D",
                        },
                    ],
                }
            ],
        },
        {
            "key": "won",
            "name": "Won",
            "kind": "won",
            "probability": 100,
            "automation": [
                {"key": "onboard", "on": "enter", "then": [{"type": "enroll", "journey": "onboarding"}]},
            ],
        },
        {"key": "lost", "name": "Lost", "kind": "lost", "probability": 0},
    ],
}
ONBOARDING: Final[dict[str, Any]] = {
    "entry": {"api": True, "again": {"mode": "when_not_active"}},
    "start": "mark",
    "nodes": {
        "mark": {"type": "update_person", "set": {"attributes.onboarding": True}, "next": "settle"},
        "settle": {"type": "wait", "for": "P30D", "next": "done"},
        "done": {"type": "exit", "reason": "settled"},
    },
}


def prepare(driver: Driver) -> None:
    """Make the pipeline and the journey that a won deal begins; what an earlier run made is brought up to date."""
    journey = {"key": "onboarding", "name": "Onboarding", "definition": ONBOARDING}
    if driver.call("POST", "/journeys", journey, fine=(409,)).is_success:
        driver.call("POST", "/journeys/onboarding/publish", {})
    if not driver.call("POST", "/pipelines", PIPELINE, fine=(409,)).is_success:
        driver.call("PATCH", f"/pipelines/{_pipeline(driver)['id']}", {"stages": PIPELINE["stages"]})


def play(driver: Driver, *, person_id: str) -> None:
    """Make a deal, see its stages act, win it, and read the board and where it was."""
    driver.tell("3. Sales makes a deal of 10,000.00 EUR with him.")
    pipeline = _pipeline(driver)
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
    board = driver.get(f"/pipelines/{pipeline['id']}/board")
    column = next(column for column in board["stages"] if column["key"] == "proposal")
    driver.tell(f"   Moved to `proposal`: {_money(column['total'])} there, weighted {_money(column['weighted'])}.")
    task = driver.until("the stage's task", lambda: _task(driver, deal["id"]))
    driver.tell(f"   The stage acts by itself. {OWNER_EMAIL} owns the deal now, with a task for {task['due_at'][:10]}:")
    driver.tell(f"     {task['title']}")
    driver.call("PATCH", f"/tasks/{task['id']}", {"status": "done"})
    driver.call("POST", f"/deals/{deal['id']}/move", {"stage_id": stages["won"]})
    history = driver.get(f"/deals/{deal['id']}/history")["items"]
    driver.tell(f"   Called, and won, by way of {', '.join(stay['stage'] for stay in history)}.")
    passage = driver.until("the journey of customers won", lambda: _onboarded(driver, person_id))
    driver.tell(f"   `won` acts too: it let him into the journey `onboarding`, where he is at `{passage['node']}`.")


def _pipeline(driver: Driver) -> dict[str, Any]:
    return next(each for each in driver.get("/pipelines")["items"] if each["key"] == PIPELINE["key"])


def _task(driver: Driver, deal_id: str) -> dict[str, Any] | None:
    return next(iter(driver.get("/tasks", deal_id=deal_id)["items"]), None)


def _onboarded(driver: Driver, person_id: str) -> dict[str, Any] | None:
    passages = driver.get("/journeys/onboarding/enrollments", person_id=person_id, node="settle")["items"]
    return next(iter(passages), None)


def _money(money: dict[str, str]) -> str:
    return f"{money['amount']} {money['currency']}"
