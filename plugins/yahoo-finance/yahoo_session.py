"""The one door to Yahoo: every request of yfinance, whether for a cookie, a crumb or data, leaves through here.

yfinance takes any curl_cffi session. This one counts each request against the provider's budget, sends all of them to
`base_url` when that is set, owns the time-out, and judges answers before yfinance can swallow what went wrong.
"""

import time
from typing import Any
from urllib.parse import urlsplit

from curl_cffi.requests import Headers, Response, Session
from curl_cffi.requests.exceptions import RequestException, Timeout
from yahoo_account import Asking, who_asks
from yahoo_errors import REFUSED, check_chart, judge, unreachable

from timebase.sdk import UpstreamTimeout

CHART_PATH = "/v8/finance/chart/"
DATA_PATHS = (CHART_PATH, "/v1/finance/search")

# Cookie, consent page and crumb. The chart endpoint answers without any of them, so a mute cookie server may not cost
# the whole time-out, and one that is blocked (as many ad blockers do) may not cost requests with every question.
KEY_PATHS = ("/", "/consent", "/v1/test/getcrumb")
KEY_TIMEOUT_S = 5.0
KEEP_KEYS_S = 3_600.0


class YahooSession(Session[Response]):
    """Raises: for data the errors of `judge`, Upstream and UpstreamTimeout; for cookie and crumb what curl raises."""

    def __init__(self, base_url: str, timeout_s: float) -> None:
        super().__init__(impersonate="chrome", trust_env=not base_url)
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._keys: dict[str, tuple[float, Response | RequestException]] = {}

    def request(self, method: Any, url: str, **kwargs: Any) -> Response:  # type: ignore[override]  # noqa: ANN401
        path = urlsplit(url).path or "/"
        if path in KEY_PATHS:
            return self._ask_for_key(method, url, path, kwargs)
        if not path.startswith(DATA_PATHS):
            return self._send(method, url, kwargs, self._timeout_s)
        try:
            response = self._send(method, url, kwargs, self._timeout_s)
        except Timeout as exc:
            raise UpstreamTimeout(f"Yahoo did not answer within {self._timeout_s:g} s") from exc
        except RequestException as exc:
            raise unreachable(exc) from exc
        return _judged(response, who_asks())

    def _ask_for_key(self, method: Any, url: str, path: str, kwargs: dict[str, Any]) -> Response:  # noqa: ANN401
        """Once an hour, whatever came of it, and anew when Yahoo has refused the session."""
        asked_s, answer = self._keys.get(path, (0.0, None))
        if answer is None or who_asks().is_refused or time.monotonic() - asked_s >= KEEP_KEYS_S:
            try:
                answer = self._send(method, url, kwargs, min(self._timeout_s, KEY_TIMEOUT_S))
            except RequestException as exc:
                answer = exc
            self._keys[path] = (time.monotonic(), answer)
        if isinstance(answer, RequestException):
            raise answer.with_traceback(None)
        return answer

    def _send(self, method: Any, url: str, kwargs: dict[str, Any], timeout_s: float) -> Response:  # noqa: ANN401
        who_asks().count()
        if self._base_url:
            split = urlsplit(url)
            url = self._base_url + (split.path or "/") + (f"?{split.query}" if split.query else "")
            kwargs = {**kwargs, "allow_redirects": False}
        return super().request(method, url, **{**kwargs, "timeout": timeout_s})


def _judged(response: Response, asking: Asking) -> Response:
    """A first refusal, and Europe's consent page, are left to yfinance: it fetches another cookie and asks again."""
    is_consent = (urlsplit(response.url).hostname or "").endswith("consent.yahoo.com")
    is_first_refusal = response.status_code in REFUSED and not asking.is_refused
    asking.is_refused = asking.is_refused or is_first_refusal
    if is_consent or is_first_refusal:
        return response
    answer = judge(response.status_code, _texts(response.headers), response.content)
    if urlsplit(response.url).path.startswith(CHART_PATH):
        check_chart(answer)
    return response


def _texts(headers: Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if value is not None}
