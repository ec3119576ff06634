"""What PostgreSQL reads as text: the words of strangers, and ranges."""

from timebase.model.timerange import Ranges, to_datetime


def clean(text: str) -> str:
    """PostgreSQL's text has every character but NUL, and no half of a surrogate pair."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def multirange(ranges: Ranges) -> str:
    """A tstzmultirange as PostgreSQL reads it; text, because one parameter then holds as many as there are."""
    parts = (
        f"[{to_datetime(part.start_us).isoformat()},{to_datetime(part.end_us).isoformat()})" for part in ranges.parts
    )
    return f"{{{','.join(parts)}}}"
