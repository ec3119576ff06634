"""What a kill left half done is put right at the next start."""

from pathlib import Path

from timebase.house import MANIFESTS
from timebase.supervisor.install import INCOMING, REPLACED, mend, own_roots


def a_folder(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(text)
    return path


def test_what_was_on_its_way_in_is_swept_away(tmp_path: Path) -> None:
    a_folder(tmp_path / f"{INCOMING}0a", "half")
    mend([tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_an_old_version_without_a_new_one_comes_back(tmp_path: Path) -> None:
    a_folder(tmp_path / f"{REPLACED}mine", "old")
    mend([tmp_path])
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine/config.yaml").read_text() == "old"


def test_an_old_version_beside_the_new_one_goes(tmp_path: Path) -> None:
    a_folder(tmp_path / f"{REPLACED}mine", "old")
    a_folder(tmp_path / "mine", "new")
    mend([tmp_path])
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine/config.yaml").read_text() == "new"


def test_a_link_that_the_operator_made_is_followed_by_nobody(tmp_path: Path) -> None:
    code = a_folder(tmp_path / "checkout", "code")
    root = tmp_path / "manifests"
    a_folder(root / "mine", "new")
    (root / f"{REPLACED}mine").symlink_to(code)
    mend([root])
    assert (code / "config.yaml").read_text() == "code"
    assert [each.name for each in root.iterdir()] == ["mine"]


def test_the_bundled_directory_is_nobodys_and_a_missing_one_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    missing, in_a_file = tmp_path / "a/b", tmp_path / "file/a"
    assert own_roots([MANIFESTS, missing, in_a_file]) == [missing]
