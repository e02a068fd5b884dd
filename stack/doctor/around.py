"""Looks at what is around: the mail server, names in DNS, the data folder, and whether the processes agree."""

import asyncio
import socket
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import dns.exception
import dns.resolver
from sqlalchemy import text

from core.database import Database
from core.domains import DOMAINS
from core.presence import PRESENT, fingerprint
from core.settings import Settings
from integrations.dns.txt import opened
from integrations.email.port import UnreachableError
from integrations.email.smtp import tls_context
from integrations.email.smtp_connection import Connection
from integrations.email.smtp_opening import LogInError
from integrations.email.smtp_server import SmtpServer
from stack.doctor.findings import Finding, failure, ok, skipped, warning

PATIENCE: Final = 10.0
SKEW_SECONDS: Final = 5.0
REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs"})
"""Kinds of file systems that several machines may share."""
_MOUNTS: Final = Path("/proc/mounts")


async def mail(settings: Settings) -> Finding:
    """See whether the mail server takes us; nothing is sent."""
    check = "mail.server"
    if settings.smtp_url is None:
        do = "Set SMTP_URL where mail is to reach people."
        return warning(check, f"there is none: mail is written to files in {settings.mail_dir}", do)
    try:
        server = SmtpServer.of(settings.smtp_url)
    except ValueError as error:
        return failure(check, str(error), "Correct SMTP_URL.")
    where = f"{server.host}:{server.port}"
    try:
        await _greet(server)
    except LogInError as error:
        return failure(
            check, f"does not let us in: {error}", "Correct user and password in SMTP_URL, or have it offer TLS."
        )
    except UnreachableError as error:
        do = "Start it, open the way to it, or correct SMTP_URL; mail waits until it answers."
        return failure(check, f"does not take mail: {error}", do)
    return ok(check, f"{where} answers")


async def _greet(server: SmtpServer) -> None:
    """Come in as the sender does, and leave."""
    connection = Connection(server, timeout=PATIENCE)
    await connection.open(await asyncio.to_thread(tls_context, verify=not server.is_loopback))
    connection.quit()


async def names(settings: Settings) -> list[Finding]:
    """See whether the names that mail speaks of lead somewhere."""
    return [await _public_url(settings), await _bounce_domain(settings)]


async def _public_url(settings: Settings) -> Finding:
    check = "dns.public_url"
    parts = urlsplit(settings.public_url)
    host = parts.hostname or ""
    if not host or parts.scheme not in {"http", "https"}:
        return failure(check, f"PUBLIC_URL is {settings.public_url}", "It must begin with https:// and name a host.")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        do = "Have DNS name it: links in mail that was sent lead there."
        return failure(check, f"{host} of PUBLIC_URL is not found: {error.strerror or error}", do)
    addresses = {str(each[4][0]) for each in found}
    if all(ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        return warning(
            check, f"PUBLIC_URL leads to this machine alone ({host})", "Set it to where recipients reach it."
        )
    if parts.scheme == "http":
        return warning(check, "PUBLIC_URL is without TLS", "Serve it by https://: links in mail carry tokens.")
    return ok(check, f"{host} is at {', '.join(sorted(addresses))}")


async def _bounce_domain(settings: Settings) -> Finding:
    check = "dns.bounce_domain"
    domain = settings.bounce_domain
    if domain is None:
        do = "Set BOUNCE_DOMAIN where bounces are to be known by what they are of (docs/feedback.md)."
        return warning(check, "there is none: bounces go to the senders that mail names", do)
    try:
        answer = await opened(settings.dns_resolver).resolve(domain, "MX", lifetime=PATIENCE, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        do = "Give it an MX record that names the mail server which hands mail in (docs/deploying.md)."
        return failure(check, f"{domain} has no MX: bounces cannot be delivered", do)
    except (dns.exception.DNSException, OSError) as error:
        return skipped(check, f"no resolver says whether {domain} has an MX: {type(error).__name__}")
    return ok(check, f"{domain} is served by {', '.join(sorted(str(each.exchange) for each in answer))}")


def folder(settings: Settings) -> list[Finding]:
    """See whether a sender can keep its journal."""
    check = "files.data_dir"
    where = settings.data_dir.absolute()
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=where, prefix=".doctor-") as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        do = "Let the processes' user write there, on a disk with room: without its journal a sender sends nothing."
        return [failure(check, f"DATA_DIR {where} cannot be written: {error.strerror or error}", do)]
    kind = kind_of(where)
    if kind in REMOTE:
        do = "Set DATA_DIR to a disk of the machine's own: a sender elsewhere would take its journal for a dead one's."
        return [failure(check, f"DATA_DIR {where} is on {kind}, which other machines may share", do)]
    return [ok(check, f"{where} can be written ({kind})")]


def kind_of(path: Path, mounts: Path = _MOUNTS) -> str:
    """Return the kind of the file system that holds `path`; `unknown` where the system does not tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return "unknown"
    found = "", "unknown"
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        place = point.encode().decode("unicode_escape")
        if path.is_relative_to(place) and len(place) >= len(found[0]):
            found = place, kind
    return found[1]


async def processes(database: Database, settings: Settings) -> list[Finding]:
    """See whether the processes that are there agree with one another, and with what the doctor was told."""
    async with database.system() as session:
        rows = (await session.execute(text(f"SELECT kind, facts FROM process_beat WHERE {PRESENT}"))).all()  # noqa: S608 - a constant
    there: list[tuple[str, dict[str, Any]]] = [(row.kind, row.facts) for row in rows]
    return [
        _there(there, settings),
        _secrets(there, settings),
        _versions(there),
        _temporals(there),
        _public_urls(there),
        _clocks(there),
    ]


def _there(there: Sequence[tuple[str, dict[str, Any]]], settings: Settings) -> Finding:
    kinds = defaultdict[str, int](int)
    for kind, _ in there:
        kinds[kind] += 1
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "none"
    missing = [kind for kind in ("api", "worker") if not kinds[kind]]
    if missing:
        do = "Start them; one that runs says so within a minute, in the database that its DATABASE_URL names."
        return failure("processes.there", f"{told}: no {' and no '.join(missing)} of this database runs", do)
    domains = {facts.get("domain") for kind, facts in there if kind == "worker"}
    if None not in domains and settings.domain is None and len(domains) < len(DOMAINS):
        do = "Start a worker for each domain: what one owes another waits for it."
        return failure("processes.there", f"{told}; workers of {', '.join(sorted(filter(None, domains)))} alone", do)
    return ok("processes.there", told)


def _secrets(there: Sequence[tuple[str, dict[str, Any]]], settings: Settings) -> Finding:
    own = fingerprint(settings)
    others = sorted({f"{kind} {facts['pid']} on {facts['host']}" for kind, facts in there if facts["secret"] != own})
    if others:
        do = "Give all of them the same: each refuses what the others signed, and cannot read what they sealed."
        return failure("processes.secret_key", f"have another SECRET_KEY than the doctor: {', '.join(others)}", do)
    return ok("processes.secret_key", "the same everywhere" if there else "nothing to compare with")


def _versions(there: Sequence[tuple[str, dict[str, Any]]]) -> Finding:
    do = "Finish the upgrade; for longer than that it is no way to run."
    return _same("processes.version", (facts["version"] for _, facts in there), "different versions run", do, warning)


def _temporals(there: Sequence[tuple[str, dict[str, Any]]]) -> Finding:
    found = (facts["temporal"].rpartition("/")[2] for kind, facts in there if kind in {"api", "worker", "relay"})
    do = "Give all of them the same TEMPORAL_NAMESPACE: what one starts there the others never see."
    return _same("processes.temporal", found, "different namespaces are used", do)


def _public_urls(there: Sequence[tuple[str, dict[str, Any]]]) -> Finding:
    do = "Give all of them the same: links in mail, and what providers call, lead to where it says."
    return _same("processes.public_url", (facts["public_url"] for _, facts in there), "PUBLIC_URL is not the same", do)


def _same(
    name: str, found: Iterable[str], unlike: str, do: str, wrong: Callable[[str, str, str], Finding] = failure
) -> Finding:
    """Find whether all processes have the same; `unlike` says that they have not, and `do` what to do then."""
    told = sorted(set(found))
    if len(told) > 1:
        return wrong(name, f"{unlike}: {', '.join(told)}", do)
    return ok(name, ", ".join(told) or "nothing runs")


def _clocks(there: Sequence[tuple[str, dict[str, Any]]]) -> Finding:
    wrong = sorted(
        f"{facts['host']} {facts['skew']:+.1f} s" for _, facts in there if abs(facts.get("skew", 0.0)) > SKEW_SECONDS
    )
    if wrong:
        do = "Have NTP keep them: times of day, rates and signatures go by them."
        return failure("processes.clock", f"clocks differ from Postgres': {', '.join(dict.fromkeys(wrong))}", do)
    return ok("processes.clock", f"within {SKEW_SECONDS:.0f} s of Postgres'")
