"""The operator's values for a provider's options and secrets, typed and checked before the plugin sees them."""

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from timebase.errors import ConfigError
from timebase.manifest.manifest import Manifest, Option, Secret

WRONG = object()
TRUE, FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
EXAMPLES = {"int": "30", "float": "0.5", "str": "text", "bool": "true", "list": "[a, b]", "map": "{a: 1}"}


def resolve_options(manifest: Manifest, overrides: Mapping[str, object]) -> dict[str, object]:
    """The options as the plugin gets them. Text is understood for every type, because environment variables are text.

    Raises: ConfigError with all faults, a line each.
    """
    faults = wrong_options(manifest, overrides)
    resolved: dict[str, object] = {}
    for name, option in manifest.options.items():
        is_set = overrides.get(name) is not None
        resolved[name] = typed(option, overrides[name]) if is_set else option.default
        if option.required and not is_set:
            place = f"providers: {{{manifest.slug}: {{options: {{{name}: {EXAMPLES[option.type]}}}}}}}"
            faults.append(
                f"{manifest.slug}: option `{name}` is not set; write `{place}`{_described(option.description)}"
            )
    if faults:
        raise ConfigError(faults)
    return resolved


def resolve_secrets(manifest: Manifest, environ: Mapping[str, str], overrides: Mapping[str, object]) -> dict[str, str]:
    """The secrets that are set; the configuration wins over the environment. No fault ever holds a value.

    Raises: ConfigError with all faults, a line each.
    """
    faults = _unknown("secret", overrides, manifest.slug, manifest.secrets)
    resolved: dict[str, str] = {}
    for name, secret in manifest.secrets.items():
        value = str(overrides.get(name) or environ.get(secret.env) or "").strip()
        if value:
            resolved[name] = value
        elif secret.required:
            faults.append(
                f"{manifest.slug}: secret `{name}` is not set; set the environment variable {secret.env}"
                f"{_described(secret.description)}"
            )
    if faults:
        raise ConfigError(faults)
    return resolved


def wrong_values(manifest: Manifest, own: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """What is wrong with the options and secrets that are set, and what else must be set once any is."""
    options, secrets = own.get("options", {}), own.get("secrets", {})
    is_begun = bool(options or secrets) or any(environ.get(secret.env) for secret in manifest.secrets.values())
    if not is_begun:
        return []
    faults: list[str] = []
    for resolve in (lambda: resolve_options(manifest, options), lambda: resolve_secrets(manifest, environ, secrets)):
        try:
            resolve()
        except ConfigError as error:
            faults += error.faults
    return faults


def wrong_options(manifest: Manifest, overrides: Mapping[str, object]) -> list[str]:
    faults = _unknown("option", overrides, manifest.slug, manifest.options)
    for name, option in manifest.options.items():
        if overrides.get(name) is None:
            continue
        value = typed(option, overrides[name])
        problem = f"must be of type {option.type}" if value is WRONG else fault_of(option, value)
        if problem:
            faults.append(f"{manifest.slug}: option `{name}` is {overrides[name]!r} but {problem}")
    return faults


def typed(option: Option, value: object) -> Any:  # noqa: ANN401
    """`value` as the option's type, or WRONG."""
    try:
        return _READ[option.type](value)
    except (TypeError, ValueError):
        return WRONG


def fault_of(option: Option, value: Any) -> str:  # noqa: ANN401
    """What is wrong with a value of the right type, or nothing."""
    if option.choices and value not in option.choices:
        return f"must be one of: {', '.join(map(str, option.choices))}"
    if option.minimum is not None and value < option.minimum:
        return f"must be at least {option.minimum:g}"
    if option.maximum is not None and value > option.maximum:
        return f"must be at most {option.maximum:g}"
    return ""


def _read_int(value: object) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)  # type: ignore[call-overload,no-any-return]


def _read_float(value: object) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    number = float(value)  # type: ignore[arg-type]
    if number != number or abs(number) == float("inf"):
        raise ValueError(value)
    return number


def _read_str(value: object) -> str:
    if isinstance(value, bool | dict | list):
        raise ValueError(value)
    return str(value)


def _read_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in TRUE | FALSE:
        raise ValueError(value)
    return word in TRUE


def _read_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _read_list(value: object) -> list[object]:
    found = _read_json(value)
    if not isinstance(found, list | tuple):
        raise ValueError(value)
    return list(found)


def _read_map(value: object) -> dict[str, object]:
    found = _read_json(value)
    if not isinstance(found, Mapping):
        raise ValueError(value)
    return {str(key): item for key, item in found.items()}


_READ = {
    "int": _read_int,
    "float": _read_float,
    "str": _read_str,
    "bool": _read_bool,
    "list": _read_list,
    "map": _read_map,
}


def _unknown(
    kind: str, names: Iterable[str], slug: str, known: Mapping[str, Option] | Mapping[str, Secret]
) -> list[str]:
    faults = []
    for name in names:
        if name not in known:
            match = difflib.get_close_matches(name, known, n=1)
            instead = f"write `{match[0]}`" if match else f"there are: {', '.join(known) or 'none'}"
            faults.append(f"{slug}: unknown {kind} `{name}`; {instead}")
    return faults


def _described(description: str) -> str:
    return f" ({description})" if description else ""
