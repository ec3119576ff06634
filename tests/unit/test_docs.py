"""The documents say what is true: every setting, error, command and link."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from timebase import errors
from timebase.__main__ import build_parser, joined
from timebase.api import faults
from timebase.api.parameters import FORMATS, TIMES
from timebase.config import SETTINGS, Settings
from timebase.manifest.explain import manifest_schema
from timebase.sdk import Provider, Stream
from timebase.sdk.skeleton import new_plugin

HOUSE = Path(__file__).parents[2]
PAGES = sorted([HOUSE / "README.md", HOUSE / "CONTRIBUTING.md", *HOUSE.glob("docs/**/*.md")])
CONFIGURATION = (HOUSE / "docs/configuration.md").read_text()
API = (HOUSE / "docs/api.md").read_text()
PLUGINS = (HOUSE / "docs/plugins.md").read_text()


def rows(page: str) -> dict[str, list[str]]:
    """The tables of a page: first cell, without its marks -> the other cells."""
    found = (line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| `"))
    return {cells[0].strip(" `"): [cell.strip(" `") for cell in cells[1:]] for cells in found}


def error_classes(root: type[Exception]) -> Iterator[type[Exception]]:
    for kind in root.__subclasses__():
        yield kind
        yield from error_classes(kind)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_documented_with_its_variable(setting: object) -> None:
    assert setting.name in rows(CONFIGURATION)
    assert rows(CONFIGURATION)[setting.name][0] in {setting.variable, "(file only)"}


def test_the_documented_defaults_hold() -> None:
    own = Settings()
    documented = rows(CONFIGURATION)
    wrong = {
        name: value
        for name, value in vars_of(own).items()
        if isinstance(value, int | float) and documented[name][1] != f"{value:g}"
    }
    assert wrong == {}


def vars_of(settings: Settings) -> dict[str, object]:
    return {setting.name: getattr(settings, setting.name) for setting in SETTINGS}


def test_every_error_a_client_can_see_is_documented() -> None:
    codes = {fault.code for fault in faults.FAULTS if hasattr(fault, "code")}
    assert {code for code in codes if f"`{code}`" not in API} == {errors.ProviderError.code} & codes


def test_every_provider_error_is_documented() -> None:
    raised = {kind.__name__ for kind in errors.PROVIDER_ERRORS.values()} - {"Unavailable"}  # the core's own word
    assert {name for name in raised if f"`{name}" not in PLUGINS} == set()


@pytest.mark.parametrize("name", ["history", "stream", "setup", "close", "spend"])
def test_every_method_a_plugin_may_have_is_documented(name: str) -> None:
    assert hasattr(Provider, name)
    assert name in PLUGINS


@pytest.mark.parametrize("name", ["wanted", "changed", "trades", "quotes", "bars", "up", "down", "pulse", "refuse"])
def test_every_method_of_a_stream_is_documented(name: str) -> None:
    assert hasattr(Stream, name)
    assert name == "wanted" or hasattr(Stream, f"{name}_sync")
    assert re.search(rf"\b{name}\b", PLUGINS)


def test_every_format_is_documented() -> None:
    assert {name for name in (*FORMATS, *TIMES) if name not in API} == set()


def test_every_key_of_the_manifest_is_described_in_its_schema() -> None:
    assert {key for key, spec in manifest_schema()["properties"].items() if not spec.get("description")} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOUSE)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOUSE)))
def test_every_timebase_command_that_is_shown_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"^(?:\.venv/bin/)?timebase ((?!-server)[^#\n]+)", page.read_text(), flags=re.MULTILINE)
    for line in shown:
        build_parser().parse_args(joined(line.split()))
    assert capsys.readouterr().err == ""


def test_the_skeleton_is_as_short_as_promised(tmp_path: Path) -> None:
    provider = next(path for path in new_plugin("My Vendor", tmp_path) if path.name == "provider.py")
    assert len(provider.read_text().splitlines()) <= 30
