"""Tries a mail server's credentials: connects, says hello, logs in, and goes."""

import asyncio
from typing import Final

from integrations.email.smtp import SmtpServer, tls_context
from integrations.email.smtp_connection import Connection
from integrations.email.smtp_opening import LogInError
from integrations.texts.port import RefusedError

_TIMEOUT_SECONDS: Final = 15.0


async def check(server: SmtpServer) -> str:
    """Log in; return the server's name.

    Raises:
        RefusedError: the password is not taken, or would go without TLS.
        UnreachableError: nobody answers.
    """
    connection = Connection(server, timeout=_TIMEOUT_SECONDS)
    try:
        await connection.open(await asyncio.to_thread(tls_context, verify=not server.is_loopback))
    except LogInError as error:
        raise RefusedError(str(error)) from error
    connection.quit()
    return server.host
