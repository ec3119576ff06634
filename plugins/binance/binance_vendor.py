"""python-binance as TimeBase uses it: its exceptions end here.

`AsyncClient` rather than `Client`: both take 56 MB after fifty pages, but a page takes 0.9 ms instead of 1.2 ms, and no
question needs a thread. It is made without `create`, which would ping Binance. `get_historical_klines` is not used: it
asks for the first kline ever with every question and sleeps a second after every third page.

Loads aiohttp and all of python-binance, so it is imported in `setup`.
"""

from collections.abc import Awaitable

from aiohttp import ClientError, ClientTimeout, ContentTypeError
from binance.async_client import AsyncClient
from binance.exceptions import BinanceAPIException, BinanceRequestException
from binance_errors import check_answer, typed_error

from timebase.sdk import Malformed, ProviderError, Upstream, UpstreamTimeout

BASE_URL = "https://api.binance.com"
PAGE = 1_000  # Binance's largest


class Market:
    """Answers are as Binance gave them. Raises: ProviderError, typed."""

    def __init__(self, base_url: str, timeout_s: float) -> None:
        self.client = AsyncClient(
            session_params={"trust_env": base_url == BASE_URL},  # a proxy is for the way to Binance
            requests_params={"timeout": ClientTimeout(total=timeout_s), "allow_redirects": False},
        )
        self.client.API_URL = f"{base_url.rstrip('/')}/api"

    async def close(self) -> None:
        await self.client.close_connection()  # type: ignore[no-untyped-call]

    async def klines(self, native: str, interval: str, from_ms: int, last_ms: int) -> object:
        """One page of those that open in [from_ms, last_ms], the earliest ones."""
        return await _asked(
            self.client.get_klines(symbol=native, interval=interval, startTime=from_ms, endTime=last_ms, limit=PAGE)
        )

    async def prices(self) -> object:
        """Every symbol with its last price."""
        return await _asked(self.client.get_all_tickers())


async def _asked(request: Awaitable[object]) -> object:
    try:
        answer = await request
    except TimeoutError as exc:
        raise UpstreamTimeout("Binance did not answer in time") from exc
    except BinanceAPIException as exc:
        raise _told(exc) from exc
    except (BinanceRequestException, ContentTypeError, TypeError) as exc:
        raise Malformed(f"Binance's answer cannot be read: {str(exc)[:200]}") from exc
    except ClientError as exc:
        raise Upstream(f"Binance cannot be reached: {exc}") from exc
    except AttributeError as exc:  # python-binance takes the body of every error for an object
        raise Upstream("Binance answered with an error that is not an object") from exc
    check_answer(answer)
    return answer


def _told(exc: BinanceAPIException) -> ProviderError:
    code = exc.code if isinstance(exc.code, int) else 0
    return typed_error(int(exc.status_code), code, str(exc.message), exc.response.headers.get("Retry-After"))
