"""What the JSON Schema refuses, said in words: what is wrong, and what to write instead."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema

from timebase.house import SCHEMA
from timebase.manifest.document import Document, Fault

WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map of keys and values",
}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}


@cache
def manifest_schema() -> Mapping[str, Any]:
    schema: Mapping[str, Any] = json.loads((SCHEMA / "manifest.schema.json").read_text("utf-8"))
    return schema


def schema_faults(document: Document) -> list[Fault]:
    """Everything that the manifest's schema refuses, in the order of the lines."""
    return refusals(document, manifest_schema())


def refusals(document: Document, schema: Mapping[str, Any]) -> list[Fault]:
    validator = jsonschema.Draft202012Validator(schema)
    faults = [fault for error in validator.iter_errors(document.value) for fault in _faults(_refusal(error), document)]
    return sorted(dict.fromkeys(faults), key=lambda fault: fault.line)


def near(word: str, known: Sequence[str]) -> str:
    """`the near one` or all that there are, to be put after "write"."""
    match = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"`{match[0]}`" if match else f"one of: {', '.join(known)}"


def shown(value: object) -> str:
    """A value as the file would hold it, on one short line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True)
class _Refusal:
    """One error of the validator: `rule` asked for `wanted` of `value`, which stands at `path`."""

    rule: str
    wanted: Any
    value: Any
    schema: Mapping[str, Any]
    path: tuple[str | int, ...]

    @property
    def name(self) -> str:
        return f"`{_name(self.path)}`" if self.path else "the file"


def _refusal(error: Any) -> _Refusal:  # noqa: ANN401
    path = tuple(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        return _Refusal("name", error.validator_value, error.instance, {}, (*path, error.instance))
    return _Refusal(error.validator, error.validator_value, error.instance, error.schema, path)


def _faults(at: _Refusal, document: Document) -> Iterator[Fault]:
    if at.rule == "additionalProperties":
        yield from _unknown_keys(at, document)
    elif at.rule == "required":
        yield from _missing_keys(at, document)
    else:
        yield Fault(document.line(at.path), f"{_what(at)}; write {_instead(at)}", _section(at.path))


def _unknown_keys(at: _Refusal, document: Document) -> Iterator[Fault]:
    known = list(at.schema["properties"])
    where = f" in {at.name}" if at.path else ""
    for key in at.value:
        if key not in known:
            home = None if at.path else _home(key)
            instead = f"it under `{home}:`" if home else near(key, known)
            path = (*at.path, key)
            yield Fault(document.line(path), f"unknown key `{key}`{where}; write {instead}", _section(path))


def _section(path: tuple[str | int, ...]) -> str:
    return str(path[0]) if path else ""


def _home(key: str) -> str | None:
    """The section in which a key that stands at the top belongs."""
    sections = manifest_schema()["properties"].items()
    return next((section for section, schema in sections if key in schema.get("properties", ())), None)


def _missing_keys(at: _Refusal, document: Document) -> Iterator[Fault]:
    where = f" in {at.name}" if at.path else ""
    for key in at.wanted:
        if key not in at.value:
            example = _example(at.schema["properties"][key])
            said = f"`{key}` is missing{where}; write `{key}: {example}`"
            yield Fault(document.line(at.path), said, _section((*at.path, key)))


def _what(at: _Refusal) -> str:
    match at.rule:
        case "type":
            kinds = [at.wanted] if isinstance(at.wanted, str) else at.wanted
            return f"{at.name} must be {' or '.join(WORDS[kind] for kind in kinds)}, not {_described(at.value)}"
        case "minimum" | "exclusiveMinimum" | "maximum":
            return f"{at.name} is {shown(at.value)} but must be {BOUNDS[at.rule]} {at.wanted}"
        case "minItems" | "minLength":
            return f"{at.name} is empty"
        case "maxLength":
            return f"{at.name} has {len(at.value)} characters and may have {at.wanted}"
        case "uniqueItems":
            return f"{at.name} names something twice"
        case _:
            return f"{at.name} cannot be `{shown(at.value)}`"


def _described(value: object) -> str:
    if value is None:
        return "empty"
    kind = {str: "text", bool: "true or false", list: "a list", dict: "a map"}.get(type(value), "the number")
    return f"{kind} `{shown(value)}`" if kind in {"text", "the number"} else kind


def _instead(at: _Refusal) -> str:
    if at.rule == "enum":
        return near(str(at.value), at.wanted)
    if at.rule == "name":
        return "a name of lower-case letters, digits and underscores that begins with a letter"
    if not at.path:
        return "keys and values, like `name: My Provider`"
    example = _example(at.schema)
    return f"`- {example}`" if isinstance(at.path[-1], int) else f"`{at.path[-1]}: {example}`"


def _example(schema: Mapping[str, Any]) -> str:
    example = schema["examples"][0]
    return example if isinstance(example, str) else _flow(example)


def _flow(value: object) -> str:
    """A value in YAML's one-line form."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _name(path: tuple[str | int, ...]) -> str:
    """`options.timeout.type`, `symbols[3]`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
