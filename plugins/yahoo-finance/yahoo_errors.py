"""What Yahoo's answers say when they are not data, as typed errors. Pure.

Everything is judged here, before yfinance reads the answer: yfinance itself turns most failures into an empty table,
and an empty table must mean that there is nothing.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from timebase.sdk import (
    AuthFailed,
    Empty,
    Malformed,
    RateLimited,
    SymbolNotFound,
    Unsupported,
    Upstream,
)

UNAUTHORIZED, FORBIDDEN = REFUSED = (401, 403)
# 999 is Yahoo's own "request denied" for clients that ask too often.
TOO_MANY = (429, 999)


def unreachable(error: Exception) -> Upstream:
    """No connection, or a broken one. curl's words, without its reading list."""
    why, _, _ = str(error).removeprefix("Failed to perform, ").partition(" See https://curl.se/")
    return Upstream(f"Yahoo cannot be reached: {why}")


def judge(status: int, headers: Mapping[str, str], body: bytes) -> object:
    """The answer when it holds data, what it says otherwise is raised.

    Raw: {"chart" | "finance": {"result": …, "error": null | {"code", "description"}}}, or plain text and HTML.
    Raises: RateLimited, also for a limit inside a 200; AuthFailed, SymbolNotFound, Empty, Unsupported, Upstream,
        Malformed.
    """
    if status in TOO_MANY or b"Too Many Requests" in body[:512]:
        raise RateLimited(f"Yahoo limits requests (HTTP {status})", retry_after_s=retry_after_s(headers))
    if status == UNAUTHORIZED:
        raise AuthFailed(f"Yahoo refuses the session: {_reason(body)}")
    if status == FORBIDDEN:
        raise Upstream(f"Yahoo refuses this address: {_reason(body)}")  # for a while: there is no key to mend
    if status >= 500 or b"Will be right back" in body[:4096]:
        raise Upstream(f"Yahoo is down (HTTP {status})")
    answer = _parse(body)
    if answer is None:
        kind = Upstream if status >= 400 else Malformed
        raise kind(f"Yahoo answered HTTP {status} with something that is not JSON ({len(body)} bytes)")
    code, description = _error(answer)
    if code or status >= 400:
        raise _typed(code, description, headers) if code else Upstream(f"Yahoo answered HTTP {status}")
    return answer


def check_chart(body: object) -> dict[str, object]:
    """The one result of a chart answer.

    Raises: Malformed when the answer is not a chart.
    """
    match body:
        case {"chart": {"result": [{"meta": {}, "indicators": {"quote": [{}, *_]}} as result, *_]}}:
            return result  # type: ignore[no-any-return]
    raise Malformed("Yahoo's answer is not a chart")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait that the header asks for, in seconds or as an HTTP date. Names of `headers` are in lower case."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at - datetime.now(UTC)).total_seconds()) if at.tzinfo else None


def _parse(body: bytes) -> dict[str, object] | None:
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _error(answer: dict[str, object]) -> tuple[str, str]:
    """Code and description of the answer's error; both empty when there is none."""
    for root in ("chart", "finance"):
        match answer.get(root):
            case {"error": {"code": str(code), **rest}}:
                return code, str(rest.get("description", ""))
    return "", ""


def _typed(code: str, description: str, headers: Mapping[str, str]) -> Exception:
    said = f"{code}: {description}"
    if code == "Not Found":
        return SymbolNotFound(f"Yahoo: {description}")
    if description.startswith("Data doesn't exist"):
        return Empty(f"Yahoo: {description}")
    if code == "Too Many Requests":
        return RateLimited(f"Yahoo: {said}", retry_after_s=retry_after_s(headers))
    if code == "Unauthorized":
        return AuthFailed(f"Yahoo: {said}")
    if code in {"Bad Request", "Unprocessable Entity"}:
        return Unsupported(f"Yahoo: {said}")
    return Upstream(f"Yahoo: {said}")


def _reason(body: bytes) -> str:
    answer = _parse(body)
    code, description = _error(answer) if answer else ("", "")
    return description or code or "no reason given"
