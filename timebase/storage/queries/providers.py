"""providers: who gives data, for people who read the database."""

from collections.abc import Sequence
from dataclasses import dataclass

from timebase.storage.annex import Connection

_UPSERT = """
INSERT INTO providers AS known (slug, name, version, enabled, config, capabilities)
SELECT slug, name, version, enabled, config::jsonb, capabilities::jsonb
  FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[])
       AS p (slug, name, version, enabled, config, capabilities)
    ON CONFLICT (slug) DO UPDATE
   SET name = excluded.name, version = excluded.version, enabled = excluded.enabled, config = excluded.config,
       capabilities = excluded.capabilities, updated_at = now()
 WHERE (known.name, known.version, known.enabled, known.config, known.capabilities)
       IS DISTINCT FROM (excluded.name, excluded.version, excluded.enabled, excluded.config, excluded.capabilities)
"""

_SELECT = "SELECT slug, name, version, enabled, config::text, capabilities::text FROM providers ORDER BY slug"


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """Raw: `config` and `capabilities` are JSON texts, without secrets."""

    slug: str
    name: str
    version: str
    enabled: bool
    config: str = "{}"
    capabilities: str = "{}"


async def upsert_providers(conn: Connection, providers: Sequence[ProviderRow]) -> None:
    by_slug = {provider.slug: provider for provider in providers}
    rows = [by_slug[slug] for slug in sorted(by_slug)]
    await conn.execute(
        _UPSERT,
        [p.slug for p in rows], [p.name for p in rows], [p.version for p in rows], [p.enabled for p in rows],
        [p.config for p in rows], [p.capabilities for p in rows],
    )  # fmt: skip


async def select_providers(conn: Connection) -> tuple[ProviderRow, ...]:
    return tuple(ProviderRow(*row) for row in await conn.fetch(_SELECT))
