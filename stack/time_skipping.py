"""Temporal's time-skipping test server, on any machine: the SDK's download, else the Java one from Maven Central."""

import asyncio
import shutil
import subprocess
import tempfile
from pathlib import Path

from temporalio.testing import WorkflowEnvironment

from stack.processes import StackError, file_lock
from stack.temporal import Report, can_download, take_program

MAVEN_VERSION = "1.31.0"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_DOWNLOAD_SECONDS = 300
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId>
  <artifactId>test-server</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>io.temporal</groupId>
      <artifactId>temporal-test-server</artifactId>
      <version>{MAVEN_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
# The SDK starts it with PORT --enable-time-skipping and kills this very process, hence exec.
_LAUNCHER = """#!/bin/sh
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '{jars}/*' io.temporal.testserver.TestServer "$@"
"""


def find_test_server(cache: Path, report: Report) -> Path:
    """A program for the SDK's `test_server_existing_path`, installed into `cache` when absent.

    Raises:
        StackError: neither way works here; the message says why.
    """
    downloaded = cache / "bin" / "temporal-test-server"
    launcher = cache / "test-server" / MAVEN_VERSION / "run"
    with file_lock(cache / "test-server.lock"):
        for program in (downloaded, launcher):
            if program.exists():
                return program
        reasons: list[str] = []
        for install, program in ((_download, downloaded), (_from_maven, launcher)):
            reason = install(program, report)
            if reason is None:
                return program
            reasons.append(reason)
    raise StackError("No time-skipping Temporal test server: " + "; ".join(reasons))


def _download(target: Path, report: Report) -> str | None:
    """Let the SDK fetch it; the reason when it cannot."""
    if not can_download():
        return "the SDK's download site does not answer"
    report("Downloading Temporal's test server ...")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:

        async def fetch() -> None:
            server = await WorkflowEnvironment.start_time_skipping(download_dest_dir=folder)
            await server.shutdown()

        try:
            asyncio.run(asyncio.wait_for(fetch(), _DOWNLOAD_SECONDS))
        except (RuntimeError, TimeoutError) as error:
            return f"the SDK's download failed ({error or 'took too long'})"
        take_program(Path(folder), target)
    return None


def _from_maven(launcher: Path, report: Report) -> str | None:
    """Fetch the Java server with all it needs; the reason when that fails."""
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing:
        return f"no {' and no '.join(missing)} on PATH to run the Java one"
    report(f"Fetching Temporal's test server {MAVEN_VERSION} from Maven Central ...")
    folder = launcher.parent
    folder.mkdir(parents=True, exist_ok=True)
    jars = folder.absolute() / "jars"
    (folder / "pom.xml").write_text(_POM)
    result = subprocess.run(
        ["mvn", "--batch-mode", "--quiet", "--strict-checksums", _COPY, f"-DoutputDirectory={jars}"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        return f"Maven failed: {result.stdout.strip()[-500:]}"
    script = folder / "run.new"
    script.write_text(_LAUNCHER.format(jars=jars))
    script.chmod(0o755)
    script.replace(launcher)
    return None
