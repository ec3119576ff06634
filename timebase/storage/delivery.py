"""What makes the repetition of a live commit recognizable."""

import secrets
from dataclasses import dataclass, field

from timebase.clock import now_us


@dataclass(frozen=True, slots=True)
class Delivery:
    """One piece of live work on its way into the database, however often it is tried.

    A commit whose acknowledgement got lost is tried again, at once or out of the spool, and trades without a number
    do not tell whether they are stored already. So the commit leaves `token` behind in the row of its `writer`, and a
    second try finds it there. The last token is enough to remember: a writer makes its commits one after the other, and
    tries one again before any other.

    `at_us`: when it was known, whenever it is stored. `life`: of the server in which it was; another one numbers its
    feeds anew.
    """

    writer: str
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    at_us: int = field(default_factory=now_us)
    life: str = ""
