"""A request's body, read ahead of the application and given to it again."""

from starlette.types import Message, Receive


async def read(receive: Receive) -> bytes | None:
    """Return the whole body; None where the caller has gone."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return message.get("body", b"")
    chunks: list[bytes] = []
    while message["type"] != "http.disconnect":
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    return None


def again(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body once, and what comes after it from `receive`."""
    unread = [body]

    async def replay() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replay
