"""config.yaml's text -> plain values that remember on which line they were written."""

import math
from dataclasses import dataclass, field
from typing import Any

import yaml

# Read as they are written: `version: 1.10` is the text 1.10, not the number 1.1.
TEXT_KEYS = frozenset({"name", "slug", "version", "description"})

HINTS = {
    "cannot start any token": "spaces instead of the tab, and quotes around text that begins with a special character",
    "mapping values are not allowed": "quotes around text that holds a colon, and the same indentation for all keys",
    "expected <block end>": "all keys of one level with the same indentation",
    "quoted scalar": "the missing closing quote",
    "flow": "the missing comma or closing bracket",
    "aliases": "the value itself",
    "could not determine a constructor": "the value without its !tag",
}
OPENED = ("quoted scalar", "flow")  # the fault is where it opens, not where the parser gave up


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at one line, and what to write instead. `section` is the key at the top that it is in."""

    line: int
    text: str
    section: str = ""


@dataclass(slots=True)
class Document:
    """`value` holds only what JSON has; `lines` says where each key or item stands, by its path from the top."""

    value: Any = None
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, path: tuple[str | int, ...]) -> int:
        """The line of `path`, or of the nearest thing above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    """YAML without aliases (a few can stand for billions of values) and without dates (`history` reads them)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not understood here", mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_document(text: str) -> Document:
    """Never raises for what is in `text`: that lands in `faults`."""
    document = Document()
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            document.value = _value(loader, node, (), document)
    except yaml.MarkedYAMLError as error:
        document.faults.append(_syntax_fault(error))
    except yaml.YAMLError as error:
        document.faults.append(Fault(1, f"this is not YAML: {error}; write plain text in UTF-8"))
    except (RecursionError, ValueError) as error:
        document.faults.append(Fault(1, f"this cannot be read: {str(error)[:200]}; write keys and plain values"))
    return document


def _syntax_fault(error: yaml.MarkedYAMLError) -> Fault:
    said = " ".join(part for part in (error.context, error.problem) if part)
    is_open = any(sign in said for sign in OPENED)
    mark = (error.context_mark if is_open else None) or error.problem_mark or error.context_mark
    hint = next((hint for sign, hint in HINTS.items() if sign in said), "quotes around text with special characters")
    return Fault(mark.line + 1 if mark else 1, f"this is not YAML: {said}; write {hint}")


def _value(loader: _Loader, node: yaml.Node, path: tuple[str | int, ...], document: Document) -> Any:  # noqa: ANN401
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*path, index), document) for index, item in enumerate(node.value)]
    if len(path) == 1 and path[0] in TEXT_KEYS and node.tag != "tag:yaml.org,2002:null":
        return node.value
    value = loader.construct_object(node, deep=True)
    if isinstance(value, float) and not math.isfinite(value):
        document.faults.append(Fault(document.line(path), f"`{path[-1]}` is {node.value}; write a number"))
        return 0.0
    if isinstance(value, bytes | set):
        return node.value
    return value


def _mapping(
    loader: _Loader, node: yaml.MappingNode, path: tuple[str | int, ...], document: Document
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            document.faults.append(Fault(line, "a key is not plain text; write `key: value`"))
            continue
        key = str(key_node.value)
        below = (*path, key)
        if key in found:
            document.faults.append(Fault(line, f"`{key}` is written twice, first on line {document.lines[below]}; "
                                               "write it once"))  # fmt: skip
            continue
        document.lines[below] = line
        found[key] = _value(loader, value_node, below, document)
    return found
