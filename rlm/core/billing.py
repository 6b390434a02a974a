"""Cost of a failed attempt at a call, as providers bill it: nothing, the reported usage, or unknown."""

from __future__ import annotations

from rlm.core.errors import (
    AuthenticationError,
    ModelError,
    ModelNotFoundError,
    OutOfCreditError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRejectedError,
)

_REFUSED = (
    AuthenticationError,
    ModelNotFoundError,
    RequestRejectedError,
    OutOfCreditError,
    RateLimitedError,
    ProviderUnavailableError,
)


def is_unbilled(error: ModelError) -> bool:
    """Returns True if a failed attempt certainly cost nothing: refused (4xx, 5xx), or never sent to the provider."""
    if error.usage is not None:
        return False
    return isinstance(error, _REFUSED) or not error.reached or (error.status or 0) >= 400
