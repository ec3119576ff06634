"""routes -> OpenAPI 3.1. Pure; the same tables that parse and route are described, so they cannot drift apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from timebase.api.exchange import JSON, PROBLEM
from timebase.api.faults import FAULTS, Fault, Unauthorized, WrongHost
from timebase.api.parameters import SYMBOL, Parameter, Schema
from timebase.api.routes import DOCUMENTED_PREFIX, IN_PATH, Route
from timebase.api.schemas import SCHEMAS

_INTRO = (
    "Ask for any symbol and get its history. Times in questions: ISO 8601 (without a zone: UTC), epoch seconds or "
    "milliseconds, `now`, or `-30d` before now; ranges are half-open [start, end). A bar's time is its opening "
    "instant. "
    "Errors are application/problem+json: `code` is stable, `suggestions` say what to try. The same paths are served "
    "under /api."
)


def describe(routes: Sequence[Route], version: str) -> bytes:
    used: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path if route.is_top else f"{DOCUMENTED_PREFIX}{route.path}"
        for method in route.methods:
            used.setdefault(path, {})[method.lower()] = _operation(route, method)
    return orjson.dumps({
        "openapi": "3.1.0",
        "info": {"title": "TimeBase", "version": version, "description": _INTRO},
        "paths": used,
        "x-errors": [_error(kind, fault) for kind, fault in FAULTS.items() if "code" in vars(kind)],
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "If TIMEBASE_TOKEN is set."},
            },
        },
    })  # fmt: skip


def _operation(route: Route, method: str) -> Mapping[str, Any]:
    own_path = [IN_PATH[name] for name in IN_PATH if f"{{{name}}}" in route.path]
    operation: dict[str, Any] = {
        "operationId": route.name if method != "HEAD" else f"{route.name}Head",
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": [
            *(_parameter(each, "path") for each in own_path),
            *(_parameter(each, "query") for each in route.query),
        ],
        "responses": _responses(route, method),
    }
    if not route.is_open:
        operation["security"] = [{}, {"token": []}]
    if route.body:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _body(route.body)}}}
    if route.packages:
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(route.packages, binary)}
    return operation


def _error(kind: type[Exception], fault: Fault) -> Mapping[str, Any]:
    code = vars(kind)["code"]
    return {"code": code, "status": int(fault.status), "title": fault.title, "suggestions": fault.advice}


def _parameter(each: Parameter[Any], where: str) -> Mapping[str, Any]:
    described: dict[str, Any] = {
        "name": each.name, "in": where, "required": where == "path", "description": each.meaning, "schema": each.schema,
    }  # fmt: skip
    return described | ({"example": each.example} if each.example else {})


def _body(known: Sequence[Parameter[Any]]) -> Schema:
    properties = {each.name: {**_or_null(each), "description": each.meaning} for each in known}
    required = [each.name for each in known if each is SYMBOL]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _or_null(each: Parameter[Any]) -> Schema:
    """Clients that have a field for everything send null for what they do not say."""
    if each is SYMBOL or each.schema.get("type") != "string":
        return each.schema
    values = {"enum": [*each.schema["enum"], None]} if "enum" in each.schema else {}
    return {**each.schema, "type": ["string", "null"], **values}


def _responses(route: Route, method: str) -> Mapping[str, Any]:
    has_body = method != "HEAD"
    content = {media: {"schema": _ref(name)} for media, name in route.replies.items()}
    described: dict[str, Any] = {
        str(route.status): {"description": route.summary} | ({"content": content} if has_body else {})
    }
    for status, meaning in route.also.items():
        same = {"content": content} if has_body and status != 304 else {}
        described[str(status)] = {"description": meaning} | same
    own: list[type[Exception]] = [WrongHost] if route.is_open else [WrongHost, Unauthorized]
    for kind in (*own, *route.faults, Exception):
        fault = FAULTS[kind]
        meaning = described.get(str(int(fault.status)), {}).get("description")
        described[str(int(fault.status))] = {
            "description": f"{meaning}. {fault.title}" if meaning else fault.title,
            **({"content": {PROBLEM: {"schema": _ref("Problem")}}} if has_body else {}),
        }
    return dict(sorted(described.items()))


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
