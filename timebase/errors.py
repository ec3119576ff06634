"""Every error TimeBase raises on purpose: whose fault it is, its code, whether asking again can help.

TimeBaseError
├── ConfigError                      operator: fix the file, then restart (or save: manifests are re-read)
├── RequestError                     client: fix the request (HTTP 4xx)
│   ├── BadParameter                 a parameter's value; says which values are allowed
│   ├── BadBody                      a message that cannot be read
│   ├── UnknownSymbol                no provider knows it; says what is near
│   ├── UnknownProvider
│   ├── ProviderExists               one of that slug is there already
│   ├── FixedProvider                it cannot be changed or removed over the API; it can be disabled
│   ├── BadPackage                   an archive that cannot be installed: every fault
│   └── NotSupported                 no provider can answer that kind of question
├── ProviderError                    upstream: ours to handle
│   ├── RateLimited(retry_after_s)   ├── Upstream          ├── UpstreamTimeout
│   ├── Malformed                    ├── Unavailable       the process is down or its circuit is open
│   ├── SymbolNotFound               ├── Empty             confirmed: nothing in that range
│   └── AuthFailed                   └── Unsupported       neither a retry nor a restart can help
├── AllProvidersFailed               nobody could answer and nothing is stored: carries every attempt
└── StoreUnavailable                 the database is away: 503, ask again

`code` is the contract with clients and with plugins in other languages; it is never renamed.
"""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from timebase.model.receipt import Attempt


class TimeBaseError(Exception):
    code: ClassVar[str] = "internal"
    is_retryable: ClassVar[bool] = False


class ConfigError(TimeBaseError):
    """All faults of one file (or of the environment) at once, a line each."""

    code = "config"

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class RequestError(TimeBaseError):
    code = "bad_request"


class BadParameter(RequestError):
    code = "bad_parameter"

    def __init__(self, parameter: str, problem: str, allowed: Sequence[str] = ()) -> None:
        self.parameter = parameter
        self.allowed = tuple(allowed)
        hint = f"; allowed: {', '.join(self.allowed)}" if self.allowed else ""
        super().__init__(f"{parameter}: {problem}{hint}")


class BadBody(RequestError):
    code = "bad_body"


class UnknownSymbol(RequestError):
    code = "unknown_symbol"

    def __init__(self, symbol: str, near: Sequence[str] = (), attempts: Sequence[Attempt] = ()) -> None:
        self.symbol = symbol
        self.near = tuple(near)
        self.attempts = tuple(attempts)
        hint = f"; did you mean {', '.join(self.near)}?" if self.near else ""
        super().__init__(f"no provider knows {symbol}{hint}")


class UnknownProvider(RequestError):
    code = "unknown_provider"

    def __init__(self, slug: str, known: Sequence[str] = ()) -> None:
        self.slug = slug
        self.known = tuple(known)
        super().__init__(f"there is no provider {slug}; there are: {', '.join(self.known) or 'none'}")


class ProviderExists(RequestError):
    code = "provider_exists"

    def __init__(self, slug: str, folder: str) -> None:
        self.slug = slug
        super().__init__(f"there is a provider {slug} already, in {folder}")


class FixedProvider(RequestError):
    code = "fixed_provider"

    def __init__(self, slug: str, why: str) -> None:
        self.slug = slug
        super().__init__(f"{slug} {why}: it can be neither updated nor removed; disable it instead")


class BadPackage(RequestError):
    code = "bad_package"

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class NotSupported(RequestError):
    code = "not_supported"


class ProviderError(TimeBaseError):
    """What a plugin's answer can go wrong with. Every class here has its `code` on the wire."""

    code = "upstream"


class RateLimited(ProviderError):
    code = "rate_limited"
    is_retryable = True

    def __init__(self, message: str = "the rate limit is used up", *, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Upstream(ProviderError):
    """The vendor answered with an error of its own (5xx, connection refused …)."""

    code = "upstream"
    is_retryable = True


class UpstreamTimeout(ProviderError):
    code = "timeout"
    is_retryable = True


class Malformed(ProviderError):
    """The vendor's answer could not be understood."""

    code = "malformed"


class Unavailable(ProviderError):
    """The provider's process is not running, or its circuit is open."""

    code = "unavailable"


class SymbolNotFound(ProviderError):
    code = "unknown_symbol"


class Empty(ProviderError):
    """The vendor confirmed that it has nothing in that range."""

    code = "empty"


class AuthFailed(ProviderError):
    code = "auth"


class Unsupported(ProviderError):
    code = "unsupported"


class AllProvidersFailed(TimeBaseError):
    code = "all_providers_failed"
    is_retryable = True

    def __init__(self, symbol: str, attempts: Sequence[Attempt], *, retry_after_s: float | None = None) -> None:
        self.symbol = symbol
        self.attempts = tuple(attempts)
        self.retry_after_s = retry_after_s
        alike = Counter(f"{a.provider}: {a.outcome} ({a.reason})" for a in self.attempts)
        tried = "; ".join(said if times == 1 else f"{said}, {times} times" for said, times in alike.items())
        super().__init__(f"no provider could answer for {symbol}: {tried or 'none was asked'}")


class StoreUnavailable(TimeBaseError):
    code = "store_unavailable"
    is_retryable = True


def sole(error: BaseException) -> BaseException:
    """The one error in a nursery's group of one; a group of several stays what it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def first_of(group: BaseExceptionGroup[ProviderError]) -> ProviderError:
    """Of what went wrong at the same time, the first."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ProviderError)
    return error


PROVIDER_ERRORS: dict[str, type[ProviderError]] = {
    kind.code: kind
    for kind in (
        RateLimited, Upstream, UpstreamTimeout, Malformed, Unavailable, SymbolNotFound, Empty, AuthFailed, Unsupported,
    )
}  # fmt: skip


def provider_error(code: str, message: str, retry_after_s: float | None = None) -> ProviderError:
    """The error that `code` names on the wire; an unknown code is an upstream fault."""
    if code == RateLimited.code:
        return RateLimited(message, retry_after_s=retry_after_s)
    return PROVIDER_ERRORS.get(code, Upstream)(message)
