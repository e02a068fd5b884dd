"""`throughline doctor`: looks at everything a deployment needs and says, line by line, what is wrong and what to do."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from pydantic import ValidationError

from core.database import Database
from core.settings import Settings
from stack.doctor import around, engine, store
from stack.doctor.findings import Finding, State, failure, ok, skipped

_SIGNS: Final = {State.OK: "ok", State.WARNING: "WARN", State.FAILURE: "FAIL", State.SKIPPED: "skip"}


def told() -> tuple[Settings | None, list[Finding]]:
    """Read the settings from the environment, and say what is wrong with them."""
    try:
        settings = Settings()  # pyright: ignore[reportCallIssue]  # the fields come from the environment
    except ValidationError as error:
        # without the values, some of which are secret
        return None, [
            failure("settings", f"{'.'.join(map(str, each['loc'])).upper()}: {each['msg']}", "See docs/operating.md.")
            for each in error.errors()
        ]
    return settings, [ok("settings", "complete")]


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything; what cannot be looked at for want of something else is said to be skipped."""
    findings, usable = await store.server(settings)
    database = Database(settings.database_url, pool_size=1) if usable else None
    try:
        if database is None:
            findings += [skipped("bus", "needs the database"), skipped("processes", "needs the database")]
        else:
            findings += await store.waiting(database, settings)
            findings += await around.processes(database, settings)
        client, found = await engine.connected(settings)
        findings += found
        if client is None:
            findings.append(skipped("temporal.pollers", "needs Temporal"))
        else:
            findings += await engine.examine(client, database, settings)
    finally:
        if database is not None:
            await database.close()
    return [*findings, await around.mail(settings), *await around.names(settings), *around.folder(settings)]


def lines(findings: Sequence[Finding]) -> list[str]:
    """Return what people read: a line for each, and below it what to do."""
    shown: list[str] = []
    for finding in findings:
        shown.append(f"{_SIGNS[finding.state]:<5}{finding.check:<28}{finding.says}")
        if finding.do:
            shown.append(f"{'':<33}-> {finding.do}")
    count = {state: sum(finding.state is state for finding in findings) for state in State}
    return [*shown, f"{count[State.FAILURE]} fail, {count[State.WARNING]} to look at, {count[State.OK]} well."]


def run(*, as_json: bool) -> tuple[str, int]:
    """Return what to print and the code to end with: 1 where something fails, else 0."""
    settings, findings = told()
    if settings is not None:
        findings += asyncio.run(examine(settings))
    failed = any(finding.state is State.FAILURE for finding in findings)
    if as_json:
        text = json.dumps({"healthy": not failed, "findings": [asdict(each) for each in findings]}, indent=2)
    else:
        text = os.linesep.join(lines(findings))
    return text, int(failed)
