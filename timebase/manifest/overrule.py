"""What the operator's configuration says about one provider, laid over its manifest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from timebase.errors import ConfigError
from timebase.manifest.document import Document
from timebase.manifest.explain import manifest_schema, refusals
from timebase.manifest.limits import rate_windows
from timebase.manifest.manifest import Manifest


def overrule(manifest: Manifest, own: Mapping[str, Any]) -> Manifest:
    """`manifest` with the operator's `enabled`, `priority` and `rate_limits`; options.py reads `options` and `secrets`.

    Rate limits of the two hold together: the operator can tighten what the manifest allows, never loosen it.
    Raises: ConfigError with all faults, a line each.
    """
    faults = refusals(Document(value=dict(own)), _schema())
    if faults:
        raise ConfigError([f"providers.{manifest.slug}: {fault.text}" for fault in faults])
    limits = own.get("rate_limits", {})
    windows = (*manifest.rate_limits, *rate_windows(limits))
    return replace(
        manifest,
        enabled=own.get("enabled", manifest.enabled),
        priority=own.get("priority", manifest.priority),
        rate_limits=tuple(sorted(windows, key=lambda window: (window.window_s, window.requests))),
        identical_window_s=max(manifest.identical_window_s, float(limits.get("identical_request_seconds", 0))),
    )


def _schema() -> Mapping[str, Any]:
    properties = manifest_schema()["properties"]
    a_map = {"type": "object", "examples": [{"timeout": 30}]}
    kept = {key: properties[key] for key in ("enabled", "priority", "rate_limits")}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {**kept, "options": a_map, "secrets": a_map},
    }
