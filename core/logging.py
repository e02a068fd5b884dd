"""Structured logs: one JSON object a line on standard output, with what the current request bound to it.

What is traced has `trace_id` and `span_id` in each of its lines.

No personal data enters a log: bind ids, counts and codes, never names, addresses, bodies or query strings.
"""

import logging
import sys

import structlog

from core import tracing


def configure(level: str = "INFO") -> None:
    """Send this process's logs, the standard library's included, to standard output as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [*(other for other in root.handlers if not _writes_to_terminal(other)), handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # Both write addresses with their query strings, which may be personal; our own request log says more.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # What a collector that is down does not take is dropped, which each batch says once: that is enough.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    # aiosmtpd's: every line of a conversation, with its addresses.
    logging.getLogger("mail.log").disabled = True


def _add_trace(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    ids = tracing.identifiers()
    if ids is not None:
        line["trace_id"], line["span_id"] = ids
    return line


def _writes_to_terminal(handler: logging.Handler) -> bool:
    return type(handler) is logging.StreamHandler


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    return structlog.stdlib.get_logger(name)
