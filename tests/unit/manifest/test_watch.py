"""What appears, changes, breaks and goes in the manifest folders."""

import os
import shutil
from pathlib import Path

import pytest

from timebase.manifest.load import load_folders
from timebase.manifest.watch import Broken, Event, Gone, Good, Watch

GOOD = """\
name: {slug}
slug: {slug}
version: 1
entrypoint: provider.py:P
data_types: [stocks]
intervals: [1d]
"""


def put(root: Path, folder: str, text: str | None = None) -> Path:
    """Write a manifest; its time is set apart from the last, as file systems may count in coarse ticks."""
    path = root / folder / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    (path.parent / "provider.py").touch()
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text if text is not None else GOOD.format(slug=folder))
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))
    return path.parent


def told(events: list[Event]) -> list[tuple[str, str]]:
    """(kind, slug or folder)"""
    names = {Good: lambda e: e.manifest.slug, Broken: lambda e: e.broken.folder.name, Gone: lambda e: e.slug}
    return [(type(event).__name__, names[type(event)](event)) for event in events]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch([tmp_path])


def test_the_first_look_finds_everything_at_once(tmp_path: Path, watch: Watch) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b", "name: [")
    assert told(watch.look()) == [("Good", "a"), ("Broken", "b")]
    assert watch.look() == []


def test_a_folder_dropped_in_is_told_when_it_has_stopped_changing(tmp_path: Path, watch: Watch) -> None:
    watch.look()
    put(tmp_path, "a")
    assert watch.look() == []
    put(tmp_path, "a", GOOD.format(slug="a2"))
    assert watch.look() == []
    assert told(watch.look()) == [("Good", "a2")]


def test_a_change_of_the_manifest_or_the_code_is_told_once(tmp_path: Path, watch: Watch) -> None:
    folder = put(tmp_path, "a")
    watch.look()
    (folder / "provider.py").write_text("print()")
    assert told([*watch.look(), *watch.look(), *watch.look()]) == [("Good", "a")]


def test_data_tests_and_caches_in_the_folder_are_no_change(tmp_path: Path, watch: Watch) -> None:
    folder = put(tmp_path, "a")
    watch.look()
    (folder / "prices.csv").write_text("1")
    (folder / "test_provider.py").write_text("1")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "provider.py").write_text("1")
    assert [*watch.look(), *watch.look()] == []


def test_a_broken_manifest_is_told_once_and_again_when_it_is_mended(tmp_path: Path, watch: Watch) -> None:
    put(tmp_path, "a")
    watch.look()
    put(tmp_path, "a", "slug: [")
    watch.look()
    assert told([*watch.look(), *watch.look()]) == [("Broken", "a")]
    put(tmp_path, "a")
    watch.look()
    assert told(watch.look()) == [("Good", "a")]


def test_a_manifest_whose_code_comes_later_is_mended_by_it(tmp_path: Path, watch: Watch) -> None:
    folder = put(tmp_path, "a")
    (folder / "provider.py").unlink()
    assert told(watch.look()) == [("Broken", "a")]
    (folder / "provider.py").touch()
    watch.look()
    assert told(watch.look()) == [("Good", "a")]


def test_a_folder_is_gone_when_it_is_missing_twice(tmp_path: Path, watch: Watch) -> None:
    folder = put(tmp_path, "a")
    watch.look()
    shutil.rmtree(folder)
    assert watch.look() == []
    assert told(watch.look()) == [("Gone", "a")]


def test_a_folder_moved_away_and_back_was_never_gone(tmp_path: Path, watch: Watch) -> None:
    folder = put(tmp_path, "a")
    watch.look()
    folder.rename(tmp_path / ".away")
    watch.look()
    (tmp_path / ".away").rename(folder)
    assert "Gone" not in dict(told([*watch.look(), *watch.look(), *watch.look()]))


def test_another_slug_is_another_provider(tmp_path: Path, watch: Watch) -> None:
    put(tmp_path, "a")
    watch.look()
    put(tmp_path, "a", GOOD.format(slug="z"))
    watch.look()
    assert told(watch.look()) == [("Gone", "a"), ("Good", "z")]


def test_a_slug_stays_with_the_folder_that_had_it_and_is_free_when_that_goes(tmp_path: Path, watch: Watch) -> None:
    folder = put(tmp_path, "b")
    watch.look()
    put(tmp_path, "a", GOOD.format(slug="b"))
    watch.look()
    assert told(watch.look()) == [("Broken", "a")]
    shutil.rmtree(folder)
    watch.look()
    assert told([*watch.look(), *watch.look()]) == [("Gone", "b"), ("Good", "b")]


def test_a_folder_that_lost_its_slug_to_another_is_gone_when_it_goes(tmp_path: Path, watch: Watch) -> None:
    put(tmp_path, "a", "name: [")
    watch.look()
    shutil.rmtree(tmp_path / "a")
    watch.look()
    assert watch.look() == [Gone(tmp_path / "a", None)]


def test_a_check_of_all_folders_names_the_faults_of_files_and_configuration(tmp_path: Path) -> None:
    put(tmp_path, "a", GOOD.format(slug="a") + "options: {n: {type: int}}\nsecrets: {key: {env: A_KEY}}\n")
    put(tmp_path, "b", "name: [")
    own = {"a": {"options": {"n": "x"}, "priority": 3}, "aa": {}}
    manifests, faults = load_folders([tmp_path], own, {})
    assert [(manifest.slug, manifest.priority) for manifest in manifests] == [("a", 3)]
    assert [fault.partition("; ")[0].removeprefix(f"{tmp_path}/") for fault in faults] == [
        "b/config.yaml:1: this is not YAML: while parsing a flow node expected the node content, but found "
        "'<stream end>'",
        "providers.aa: there is no such provider",
        "a: option `n` is 'x' but must be of type int",
        "a: secret `key` is not set",
    ]


def test_what_nobody_configured_may_lack_its_secrets(tmp_path: Path) -> None:
    put(tmp_path, "a", GOOD.format(slug="a") + "options: {n: {type: int}}\nsecrets: {key: {env: A_KEY}}\n")
    assert load_folders([tmp_path], {}, {})[1] == []
    assert len(load_folders([tmp_path], {}, {"A_KEY": "x"})[1]) == 1
