"""What a provider says, and what is said of it: one line, of bounded length, without its secrets."""

from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4  # shorter secrets would mask half of every line
MAX_CHARACTERS = 2_000


class Masking:
    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {form for secret in secrets for form in (secret, quote(secret, safe=""), quote_plus(secret))}
        # The longest first: one secret may hold another.
        self._spellings = sorted((s for s in spellings if len(s) >= SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, MASK)
        if len(text) > MAX_CHARACTERS:
            text = text[: MAX_CHARACTERS - 1] + "…"
        if text.isprintable():
            return text
        return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text).strip()
