"""Origins: which websites' pages may speak to a tenant (RFC 6454)."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import any_, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from models import Tenant

MAX_ORIGINS: Final = 100

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def normalized(text: str) -> str:
    """Return the origin as browsers send it: lower case, the host in ASCII, no default port.

    `http` is taken for this machine alone: elsewhere anybody on the way could write the page.

    Raises:
        ValueError: it is not `https://host` or `https://host:port`; its text says why.
    """
    if "*" in text:
        raise ValueError("must name one website: * is not taken")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    scheme = parts.scheme
    if scheme not in _DEFAULT_PORTS or not host or not text.isprintable() or " " in text or parts.username is not None:
        raise ValueError("must be scheme://host or scheme://host:port, as in https://shop.example")
    if parts.path or parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("must have no path: an origin ends with the host or the port")
    host = _host(host)
    if scheme == "http" and not _is_local(host):
        raise ValueError("must use https; http is taken for localhost alone")
    if ":" in host:
        host = f"[{host}]"
    return f"{scheme}://{host}" if port in {None, _DEFAULT_PORTS[scheme]} else f"{scheme}://{host}:{port}"


def _host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        ascii_host = host.encode("idna").decode().lower()
    except UnicodeError as error:
        raise ValueError("has no valid host") from error
    if not all(_LABEL.fullmatch(label) for label in ascii_host.split(".")):
        raise ValueError("has no valid host")
    return ascii_host


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def is_known(session: AsyncSession, origin: str) -> bool:
    """Return whether any tenant allows this origin; needs a session of tl_system."""
    known = select(Tenant.id).where(literal(origin) == any_(Tenant.allowed_origins)).limit(1)
    return await session.scalar(known) is not None
