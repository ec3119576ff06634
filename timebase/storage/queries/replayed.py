"""replayed: which files of a spool are stored, though they still lie on the disk."""

from timebase.storage.annex import Connection

_INSERT = "INSERT INTO replayed (writer, file) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_SELECT = "SELECT file FROM replayed WHERE writer = $1 ORDER BY file"


async def insert_replayed(conn: Connection, writer: str, file: str) -> None:
    await conn.execute(_INSERT, writer, file)


async def select_replayed(conn: Connection, writer: str) -> frozenset[str]:
    return frozenset(row["file"] for row in await conn.fetch(_SELECT, writer))
