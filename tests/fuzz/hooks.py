"""What Schemathesis cannot know of this API; it loads this module by its name."""

from typing import Any
from urllib.parse import quote

import schemathesis


@schemathesis.serializer("application/x-ndjson", "message/rfc822")
def send_as_it_is(_context: schemathesis.SerializationContext, value: Any) -> bytes:  # noqa: ANN401 - generated
    """Send text or bytes unchanged; anything else as its text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.hook  # pyright: ignore[reportUnknownMemberType] - its own annotation is not whole
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Follow no link to a website; have the stream end when all is said."""
    kwargs["allow_redirects"] = False
    if case.path == "/v1/stream":
        case.query = {**(case.query or {}), "follow": "false"}


@schemathesis.hook  # pyright: ignore[reportUnknownMemberType] - its own annotation is not whole
def filter_case(_context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Leave out addresses past 64 KiB: the server refuses them, as plain text, before the application sees them."""
    return len(quote(str((case.path_parameters, case.query)), errors="surrogatepass")) < 60_000
