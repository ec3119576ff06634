"""Manifest + the operator's word -> what a provider is started with, or what it waits for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from timebase.errors import ConfigError
from timebase.manifest.manifest import Manifest
from timebase.manifest.options import resolve_options, resolve_secrets
from timebase.manifest.overrule import overrule


@dataclass(frozen=True, slots=True)
class Setup:
    """With `faults` the provider is listed, but not started before the operator has mended them."""

    manifest: Manifest
    options: Mapping[str, object] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    faults: tuple[str, ...] = ()


def set_up(manifest: Manifest, own: Mapping[str, Any], environ: Mapping[str, str]) -> Setup:
    try:
        manifest = overrule(manifest, own)
    except ConfigError as error:
        return Setup(manifest, faults=error.faults)
    faults: list[str] = []
    options: Mapping[str, object] = {}
    secrets: Mapping[str, str] = {}
    try:
        options = resolve_options(manifest, own.get("options", {}))
    except ConfigError as error:
        faults += error.faults
    try:
        secrets = resolve_secrets(manifest, environ, own.get("secrets", {}))
    except ConfigError as error:
        faults += error.faults
    own_name = f"{manifest.slug}: "  # who shows them says whose they are
    return Setup(manifest, options, secrets, tuple(fault.removeprefix(own_name) for fault in faults))
