"""Loggers that redact secrets. Every logger of the package is made here."""

from __future__ import annotations

import logging

from rlm.core.redaction import SECRETS

_FORMATTER = logging.Formatter()


def get_logger(name: str) -> logging.Logger:
    """The logger of a module. Its lines and tracebacks are free of secrets, whichever handler writes them."""
    logger = logging.getLogger(name)
    if not any(isinstance(active, _Redaction) for active in logger.filters):
        logger.addFilter(_Redaction())
    return logger


class _Redaction(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = SECRETS.redact_message(record.getMessage()), None
        if record.exc_info and record.exc_info[0] is not None:
            # Handlers prefer this text over the exception.
            record.exc_text = SECRETS.redact_message(_FORMATTER.formatException(record.exc_info))
        return True
