import subprocess
import sys
from pathlib import Path

import pytest

from timebase.errors import ConfigError
from timebase.manifest.load import load_manifest
from timebase.sdk import HistoryRequest
from timebase.sdk.contract import check
from timebase.sdk.entrypoint import load_provider
from timebase.sdk.skeleton import new_plugin


@pytest.mark.parametrize(
    ("name", "slug", "class_name"),
    [
        ("My Vendor", "my-vendor", "MyVendor"),
        ("börse 'Zürich': \"1\" # {x}", "borse-zurich-1-x", "BorseZurich1X"),
        ("2fast", "2fast", "The2fast"),
        ("None", "none", "TheNone"),
        ("bars", "bars", "TheBars"),
        ("provider", "provider", "TheProvider"),
        ("x" * 200, "x" * 50, "X" + "x" * 199),
    ],
)
def test_a_new_plugin_loads_and_keeps_the_contract(tmp_path: Path, name: str, slug: str, class_name: str) -> None:
    files = new_plugin(name, tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in files] == [
        f"{slug}/config.yaml",
        f"{slug}/provider.py",
        f"{slug}/test_provider.py",
    ]
    manifest = load_manifest(tmp_path / slug)
    assert manifest.slug == slug
    assert manifest.entrypoint == f"provider.py:{class_name}"
    provider = load_provider(f"{manifest.code}:{class_name}")
    request = HistoryRequest.of(manifest.symbols[0].symbol, "1d", "2024-01-01", "2024-03-01")
    assert check(provider(**{}), request) == []


def test_its_own_test_passes(tmp_path: Path) -> None:
    *_, test = new_plugin("My Vendor", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert "1 passed" in told.stdout, told.stdout + told.stderr


def test_the_provider_is_short(tmp_path: Path) -> None:
    _, provider, _ = new_plugin("My Vendor", tmp_path)
    assert len(provider.read_text().splitlines()) <= 30


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    new_plugin("My Vendor", tmp_path)
    with pytest.raises(ConfigError, match="already there"):
        new_plugin("my vendor", tmp_path)


@pytest.mark.parametrize("name", ["", "…", "株"])
def test_a_name_without_a_slug_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="write a name like"):
        new_plugin(name, tmp_path)
