"""Texts of strangers, as PostgreSQL can hold them."""


def clean(text: str) -> str:
    """PostgreSQL's text has every character but NUL, and no half of a surrogate pair."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
