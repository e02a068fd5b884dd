"""Bodies of HTML forms."""

from contextlib import AbstractAsyncContextManager

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request


def form_data(request: Request, *, max_files: int, max_fields: int) -> AbstractAsyncContextManager[FormData]:
    """Return the fields of the body, for as long as the block lasts, as Starlette does.

    Raises:
        HTTPException: they are in another character set: Starlette would take any that Python has, and some of those
            fail or give text that no store can hold.
    """
    _, options = parse_options_header(request.headers.get("content-type"))
    if options.get(b"charset", b"utf-8").lower() not in {b"utf-8", b"utf8"}:
        raise HTTPException(415, "Send form fields in UTF-8.")
    return request.form(max_files=max_files, max_fields=max_fields)
