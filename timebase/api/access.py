"""Who may ask: one bearer token for the whole server, or none; and no strange web page in a user's name."""

import hmac
import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from timebase.api.exchange import Asked, Desk
from timebase.api.faults import CrossOrigin, Unauthorized, WrongHost

SAFE = frozenset({"GET", "HEAD"})


def check_token(desk: Desk, asked: Asked) -> None:
    """Raises: Unauthorized. Compared in constant time, so that nobody can guess it letter by letter."""
    token = desk.settings.token
    if token is None:
        return
    scheme, _, given = asked.headers.get("authorization", "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not is_right:
        raise Unauthorized("the token is not the server's" if given else "this server asks for a bearer token")


def check_host(desk: Desk, asked: Asked) -> None:
    """A page may let its own name lead to 127.0.0.1 and ask us as itself (DNS rebinding): we do not go by that name.

    With a token there is nothing to gain from that: the page has not got it.
    Raises: WrongHost.
    """
    host = asked.headers.get("host", "")
    if desk.settings.token is None and host and not _is_own(host, desk.settings.host):
        raise WrongHost(host)


def check_origin(asked: Asked) -> None:
    """Browsers send a page's origin with all that may change something, for any page: one from elsewhere is refused.

    Raises: CrossOrigin.
    """
    origin = asked.headers.get("origin")
    if asked.method not in SAFE and origin is not None and _netloc(origin) != asked.headers.get("host"):
        raise CrossOrigin(f"{origin[:100]} is not this server")


def check_page(desk: Desk, asked: Asked) -> None:
    """Browsers let any page open a WebSocket anywhere, in its user's name. One from elsewhere needs the token, which no
    page has unless somebody gave it; where the server asks for none, it is refused.

    Raises: CrossOrigin.
    """
    origin = asked.headers.get("origin")
    if origin is not None and desk.settings.token is None and _netloc(origin) != asked.headers.get("host"):
        raise CrossOrigin(f"{origin[:100]} is not this server; with a token (TIMEBASE_TOKEN) any page may follow")


def is_trusted(desk: Desk, asked: Asked) -> bool:
    """For what is open to all, but says less to strangers."""
    try:
        check_token(desk, asked)
    except Unauthorized:
        return False
    return True


@lru_cache(maxsize=64)
def _is_own(host: str, configured: str) -> bool:
    """Whether a Host header names loopback or the address that we are told to listen on, whatever the port."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name in {configured.lower(), "localhost"} or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _netloc(origin: str) -> str:
    """Of what no page has for an origin: nothing."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
