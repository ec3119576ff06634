"""What Binance says when it has no data, as typed errors. Pure.

Source: Binance Spot API docs, "HTTP return codes", "General information on rate limits", "Error codes".
"""

import re
import time

from timebase.sdk import (
    AuthFailed,
    Malformed,
    ProviderError,
    RateLimited,
    SymbolNotFound,
    Unsupported,
    Upstream,
    UpstreamTimeout,
)

TOO_MANY_CODES = (-1003, -1015)
TOO_MANY = (418, 429)  # 418: banned for having gone on after 429
FIREWALL = 403
FIREWALL_WAIT_S = 300.0  # the firewall's bans have no Retry-After; they last minutes
NOT_HERE = 451  # the country of the caller

_BY_CODE: dict[int, type[ProviderError]] = {
    -1121: SymbolNotFound,
    -1100: SymbolNotFound,  # illegal characters in the only text that we send, the symbol
    -1120: Unsupported,  # interval
    -1002: AuthFailed,
    -1022: AuthFailed,
    -2008: AuthFailed,
    -2014: AuthFailed,
    -2015: AuthFailed,
    -1007: UpstreamTimeout,
}
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")


def typed_error(status: int, code: int, message: str, retry_after: str | None) -> ProviderError:
    """The error that an answer {"code", "msg"} stands for; `code` is 0 when it had none. `retry_after` in seconds."""
    said = f"Binance: {message[:200]} (code {code}, HTTP {status})"
    if status in TOO_MANY or code in TOO_MANY_CODES:
        return RateLimited(said, retry_after_s=_wait_s(message, retry_after))
    if code in _BY_CODE:
        return _BY_CODE[code](said)
    if status == FIREWALL:
        return RateLimited(f"{said}: Binance's firewall blocks this address", retry_after_s=FIREWALL_WAIT_S)
    if status == NOT_HERE:
        return Unsupported(f"{said}; the option base_url: https://data-api.binance.vision serves more countries")
    if status == 401:
        return AuthFailed(said)
    return Upstream(said)


def check_answer(answer: object) -> None:
    """Raise what an answer with status 200 says when it is an error all the same."""
    if not isinstance(answer, dict):
        return
    if isinstance(answer.get("code"), int) and answer["code"] != 0:
        raise typed_error(200, answer["code"], str(answer.get("msg", "")), None)
    raise Malformed(f"Binance answered with an object that is not data: {str(answer)[:200]}")


def _wait_s(message: str, retry_after: str | None) -> float | None:
    if retry_after and retry_after.strip().isdigit():
        return float(retry_after)
    banned = _BANNED_UNTIL.search(message)
    return max(0.0, int(banned[1]) / 1_000 - time.time()) if banned else None
