"""What a failed attempt at a call costs, as providers bill: nothing, what was reported, or unknown."""

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

_TURNED_AWAY = (
    AuthenticationError,
    ModelNotFoundError,
    RequestRejectedError,
    OutOfCreditError,
    RateLimitedError,
    ProviderUnavailableError,
)


def is_unbilled(error: ModelError) -> bool:
    """Whether a failed attempt certainly cost nothing: it was turned away (4xx, 5xx) or never reached the provider."""
    if error.usage is not None:
        return False
    return isinstance(error, _TURNED_AWAY) or not error.reached or (error.status or 0) >= 400
