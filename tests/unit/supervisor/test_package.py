"""What an archive may hold, and what it may not: everything else is refused by name."""

import gzip
import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.errors import BadPackage
from timebase.supervisor.package import MAX_MEMBERS, MAX_UNPACKED_BYTES, PackedFile, unpack

Packer = Callable[[Mapping[str, bytes]], bytes]
FOLDER = {"config.yaml": b"slug: a\n", "provider.py": b"print()\n", "lib/more.py": b""}


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], *odd: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in odd:
            archive.addfile(info)
    return out.getvalue()


def entry(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/passwd"
    return info


def told(archive: bytes) -> str:
    with pytest.raises(BadPackage) as refused:
        unpack(archive)
    return str(refused.value)


both = pytest.mark.parametrize("pack", [zipped, tarred])


@both
@pytest.mark.parametrize("top", ["", "my-vendor/", "./", "./my-vendor/"])
def test_a_folder_packed_from_inside_or_outside_is_unpacked(pack: Packer, top: str) -> None:
    files = unpack(pack({top + name: content for name, content in FOLDER.items()}))
    assert {str(file.path): file.content for file in files} == FOLDER


@both
def test_what_is_hidden_and_caches_stay_behind(pack: Packer) -> None:
    litter = {".git/config": b"", "__MACOSX/._x": b"", "lib/__pycache__/more.pyc": b"", ".env": b"KEY=1"}
    assert {str(file.path) for file in unpack(pack(FOLDER | litter))} == set(FOLDER)


@both
@pytest.mark.parametrize(
    "name",
    ["/etc/cron.d/x", "../x", "a/../../x", "a/..", "..", "C:\\x", "a\\..\\x", "a\nb", "x" * 256, "a/" * 130 + "b"],
)
def test_a_name_that_leads_out_or_is_none_is_refused_by_name(pack: Packer, name: str) -> None:
    assert name[:8] in told(pack(FOLDER | {name: b""})).encode().decode("unicode_escape")


@both
@given(st.text(st.sampled_from("./\\ab\0\n~:é…") | st.characters(), min_size=1, max_size=40))
def test_whatever_the_names_nothing_lands_outside(pack: Packer, name: str) -> None:
    try:
        files = unpack(pack(FOLDER | {name: b"content"}))
    except (BadPackage, UnicodeEncodeError):  # surrogates: no packer writes them
        return
    for file in files:
        assert not file.path.is_absolute()
        assert file.path.parts
        assert ".." not in file.path.parts
        assert "\0" not in str(file.path)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_links_devices_and_holes_are_refused(kind: bytes) -> None:
    assert "'odd' is a link, a device or sparse" in told(tarred(FOLDER, entry("odd", kind)))


def test_a_link_in_a_zip_is_refused() -> None:
    out = io.BytesIO(zipped(FOLDER))
    with zipfile.ZipFile(out, "a") as archive:
        link = zipfile.ZipInfo("odd")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert "'odd' is a link" in told(out.getvalue())


def test_another_compression_is_refused() -> None:
    out = io.BytesIO(zipped(FOLDER))
    with zipfile.ZipFile(out, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("odd", b"x" * 1000)
    assert "another method" in told(out.getvalue())


@both
def test_a_bomb_is_refused(pack: Packer) -> None:
    bomb = pack(FOLDER | {"zeros": bytes(MAX_UNPACKED_BYTES)})
    assert len(bomb) < MAX_UNPACKED_BYTES // 100
    assert "unpacks to more than" in told(bomb)


@both
def test_a_bomb_of_many_parts_is_refused(pack: Packer) -> None:
    assert "unpacks to more than" in told(pack(FOLDER | {f"{n}": bytes(MAX_UNPACKED_BYTES // 8) for n in range(9)}))


@both
@pytest.mark.parametrize("n", [MAX_MEMBERS, 12 * MAX_MEMBERS])
def test_too_many_members_are_refused(pack: Packer, n: int) -> None:
    assert "members" in told(pack(FOLDER | {f"{at}": b"" for at in range(n)}))


@both
@pytest.mark.parametrize("more", [{"Config.yaml": b""}, {"lib": b""}, {"LIB": b""}])
def test_names_that_meet_on_some_disks_are_refused(pack: Packer, more: Mapping[str, bytes]) -> None:
    assert "is there twice" in told(pack(FOLDER | more))


@both
@pytest.mark.parametrize(
    "files", [{}, {"provider.py": b""}, {"a/config.yaml": b"", "b/config.yaml": b""}, {"a/b/config.yaml": b""}]
)
def test_a_folder_without_a_manifest_is_none(pack: Packer, files: Mapping[str, bytes]) -> None:
    assert "no config.yaml" in told(pack(files))


def test_a_program_stays_one() -> None:
    info = tarfile.TarInfo("run.sh")
    info.mode = 0o755
    files = unpack(tarred(FOLDER, info))
    assert PackedFile(PurePosixPath("run.sh"), b"", is_executable=True) in files
    assert [file.is_executable for file in files].count(True) == 1


@pytest.mark.parametrize(
    "garbage", [b"", b"PK", b"\x1f\x8b", b"hello", b"PK\x05\x06" + bytes(18), gzip.compress(b"x" * 99, mtime=0)]
)
def test_garbage_is_refused(garbage: bytes) -> None:
    assert told(garbage)


@both
def test_a_damaged_archive_is_refused_or_unharmed(pack: Packer) -> None:
    whole = pack(FOLDER)
    chance = random.Random(7)
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with suppress(BadPackage):
            unpack(bytes(damaged[: chance.randint(1, len(damaged))]))
