"""Row-level security for a new table: what every migration that creates one calls."""

from alembic import op

APPEND_ONLY = "SELECT, INSERT"
FULL = "SELECT, INSERT, UPDATE, DELETE"


def isolate(table: str, *, app: str = FULL, system: str = "", column: str = "tenant_id") -> None:
    """Force row-level security on `table`; tl_app gets `app` within its tenant, tl_system gets `system` on all.

    The policy compares with `current_setting` directly: wrapped in a sub-select it ruins row estimates.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant_isolation ON {table} TO tl_app USING ({column} = current_setting('app.tenant_id')::uuid)"
    )
    op.execute(f"GRANT {app} ON {table} TO tl_app")
    if system:
        op.execute(f"CREATE POLICY system_access ON {table} TO tl_system USING (true)")
        op.execute(f"GRANT {system} ON {table} TO tl_system")


def system_only(table: str, *, system: str) -> None:
    """Keep `table`, which belongs to no tenant, to tl_system."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY system_access ON {table} TO tl_system USING (true)")
    op.execute(f"GRANT {system} ON {table} TO tl_system")


def open_to_reader(table: str, columns: str, *, column: str = "tenant_id") -> None:
    """Let tl_reader read these columns of `table` within its tenant, and do nothing else with it."""
    op.execute(
        f"CREATE POLICY tenant_reading ON {table} FOR SELECT TO tl_reader"
        f" USING ({column} = current_setting('app.tenant_id')::uuid)"
    )
    op.execute(f"GRANT SELECT ({columns}) ON {table} TO tl_reader")


def close_to_reader(table: str, columns: str) -> None:
    """Take back what `open_to_reader` gave."""
    op.execute(f"REVOKE SELECT ({columns}) ON {table} FROM tl_reader")  # noqa: S608 - names of ours
    op.execute(f"DROP POLICY tenant_reading ON {table}")
