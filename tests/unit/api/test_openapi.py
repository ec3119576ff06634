"""The description is valid, whole, and says what the code does, because it is made from the same tables."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from timebase.api import faults, pages
from timebase.api.faults import FAULTS
from timebase.api.openapi import describe
from timebase.api.routes import IN_PATH, ROUTES, paths
from timebase.api.schemas import SCHEMAS


@pytest.fixture
def described() -> dict[str, Any]:
    return json.loads(describe(ROUTES, "1.2.3"))  # type: ignore[no-any-return]


def test_every_route_is_described_with_its_methods_and_parameters(described: dict[str, Any]) -> None:
    for route in ROUTES:
        path = paths(route)[0]
        same = [each for each in ROUTES if paths(each)[0] == path]
        assert {method.upper() for method in described["paths"][path]} == {m for each in same for m in each.methods}
        operation = described["paths"][path][route.method.lower()]
        names = {each["name"] for each in operation["parameters"]}
        assert names == {each.name for each in route.query} | {name for name in IN_PATH if f"{{{name}}}" in path}
        assert all(each["description"] for each in operation["parameters"])


def test_operations_have_names_of_their_own(described: dict[str, Any]) -> None:
    names = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    text = json.dumps(described)
    for name in SCHEMAS:
        text = text.replace(f'"#/components/schemas/{name}"', "")
    assert "#/components/schemas/" not in text


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


def test_every_documented_fault_has_its_line_in_the_table() -> None:
    for route in ROUTES:
        for kind in route.faults:
            assert kind in FAULTS, (route.path, kind)


def test_the_page_lists_every_code(described: dict[str, Any]) -> None:
    codes = {each["code"] for each in described["x-errors"]}
    assert {kind.code for kind in FAULTS if issubclass(kind, faults.TimeBaseError)} <= codes  # type: ignore[attr-defined]


def test_examples_are_what_they_stand_for(described: dict[str, Any]) -> None:
    for methods in described["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                if "example" in parameter:
                    Draft202012Validator(parameter["schema"]).validate(parameter["example"])


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    page = (Path(pages.__file__).parent / "docs.html").read_text()
    for mark in ("http:", "https:", "src=", "@import", "url(", "innerHTML"):
        assert mark not in page
