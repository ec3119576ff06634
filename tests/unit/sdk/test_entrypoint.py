import sys
from pathlib import Path

import pytest

from timebase.sdk.entrypoint import load_provider


@pytest.fixture(autouse=True)
def module_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_a_provider_may_have_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("ANSWER = 42")
    (tmp_path / "mine.py").write_text(
        "from beside_it import ANSWER\nfrom timebase.sdk import Provider\nclass Mine(Provider):\n    answer = ANSWER"
    )
    assert load_provider(f"{tmp_path}/mine.py:Mine").answer == 42  # type: ignore[attr-defined]


@pytest.mark.parametrize("entrypoint", ["", "provider.py", "provider:Class", "notes.txt:Class"])
def test_what_is_no_entrypoint_is_refused(entrypoint: str) -> None:
    with pytest.raises(TypeError, match=r"an entrypoint is path/to/file\.py:Class"):
        load_provider(entrypoint)


def test_a_class_that_is_no_provider_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("class Other: pass")
    with pytest.raises(TypeError, match=r"other\.py has no class Other that is a timebase\.sdk\.Provider"):
        load_provider(f"{tmp_path}/other.py:Other")


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_provider(f"{tmp_path}/nowhere.py:Other")
