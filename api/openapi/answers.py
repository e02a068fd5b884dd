"""Responses that are no JSON, as routes declare them."""

from typing import Any, Final

Responses = dict[int | str, dict[str, Any]]


def text(description: str, **examples: str) -> dict[str, Any]:
    """Return an answer in one of these media types, written with `_` for `/`, each with an example."""
    content = {
        kind.replace("_", "/", 1).replace("_", "-"): {"schema": {"type": "string"}, "example": example}
        for kind, example in examples.items()
    }
    return {"description": description, "content": content}


def page(description: str, title: str) -> dict[str, Any]:
    """Return an answer for people."""
    return text(description, text_html=f"<!DOCTYPE html><html><title>{title}</title>...</html>")


def binary(description: str, media_type: str) -> dict[str, Any]:
    """Return an answer that is no text."""
    return {"description": description, "content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}


REJECTS: Final[Responses] = {
    200: text("The rows", text_csv="line,field,reason,email\n3,email,is not an email address,ann@\n")
}
LED_ON: Final[Responses] = {
    302: {
        "description": "To where the link leads",
        "headers": {"Location": {"description": "The address", "schema": {"type": "string"}}},
    },
    404: page("There is no such link", "Not found"),
}
NO_PAGE: Final = page("The link is not one of ours, or what it is about is gone", "Not found")


def table(csv: str, ndjson: str) -> Responses:
    """Return the answer of an export, with an example of each form."""
    return {200: text("The file; its form is as `format` asks", text_csv=csv, application_x_ndjson=ndjson)}
