"""What must not be there once everybody has left a tenant's journeys."""

from tests.chaos.shop import Shop


def assert_nothing_is_left(shop: Shop) -> None:
    """Wait until nothing is owed, and check that each cohort was one workflow, which has ended well."""
    running = shop.deployment
    for what, query in {
        "dead events": "SELECT count(*) FROM dead_event WHERE tenant_id = $1",
        "waiters": "SELECT count(*) FROM waiter WHERE tenant_id = $1",
        "cohorts not started": "SELECT count(*) FROM cohort WHERE tenant_id = $1 AND started_at IS NULL",
        "signals not delivered": "SELECT count(*) FROM cohort_signal WHERE tenant_id = $1",
        "pages not finished": "SELECT count(*) FROM message_page WHERE tenant_id = $1 AND finished_at IS NULL",
    }.items():
        running.wait_for(f"no {what}", lambda query=query: not running.count(query, shop.tenant_id), seconds=30)
    ours = f"TenantId = '{shop.tenant_id}'"
    running.wait_for(
        "every workflow has ended", lambda: not running.workflows(f"{ours} AND ExecutionStatus = 'Running'"), seconds=60
    )
    cohorts = running.count("SELECT count(*) FROM cohort WHERE tenant_id = $1", shop.tenant_id)
    completed = f"{ours} AND ExecutionStatus = 'Completed'"
    running.wait_for("each was one", lambda: len(running.workflows(completed)) == cohorts, seconds=30)
    assert running.logs("Nondeterminism") == []
