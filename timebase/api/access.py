"""Who may ask: one bearer token for the whole server, or none; and no strange web page in a user's name."""

import hmac
from urllib.parse import urlsplit

from timebase.api.exchange import Asked, Desk
from timebase.api.faults import CrossOrigin, Unauthorized


def check_token(desk: Desk, asked: Asked) -> None:
    """Raises: Unauthorized. Compared in constant time, so that nobody can guess it letter by letter."""
    token = desk.settings.token
    if token is None:
        return
    scheme, _, given = asked.headers.get("authorization", "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not is_right:
        raise Unauthorized("the token is not the server's" if given else "this server asks for a bearer token")


def check_origin(asked: Asked) -> None:
    """Browsers send a page's origin with every POST, and send a POST for any page: one from elsewhere is refused.

    Raises: CrossOrigin.
    """
    origin = asked.headers.get("origin")
    if asked.method in {"POST", "PUT"} and origin is not None and urlsplit(origin).netloc != asked.headers.get("host"):
        raise CrossOrigin(f"{origin[:100]} is not this server")


def is_trusted(desk: Desk, asked: Asked) -> bool:
    """For what is open to all, but says less to strangers."""
    try:
        check_token(desk, asked)
    except Unauthorized:
        return False
    return True
