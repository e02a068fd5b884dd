"""Which version of a thing a change is meant for: of two who change it at once, one is refused."""

from typing import Annotated

from fastapi import Depends, Header

from core.errors import InvalidError


async def _named(if_match: Annotated[str | None, Header(max_length=40)] = None) -> int | None:
    """Return the version that `If-Match` names, as `"3"` or 3."""
    if if_match is None:
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(2**31)):
        raise InvalidError.of("If-Match", "is not a version")
    return int(text)


VersionDep = Annotated[int | None, Depends(_named)]
"""The version that the header `If-Match` names."""


def asked(header: int | None, body: int | None) -> int | None:
    """Return the version a request is about, which its header or its body may name.

    Raises:
        InvalidError: they name different ones.
    """
    if header is not None and body is not None and header != body:
        raise InvalidError.of("version", "and the header If-Match name different versions")
    return body if header is None else header
