"""An uploaded zip becomes a set, or is refused before a byte of it is unpacked."""

import io
import random
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cxr_core import workspace
from cxr_core.data import archive, library, sources
from cxr_core.data.archive import Limits
from cxr_core.errors import DatasetError, FetchCancelledError, FetchError


def film(seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()


FILMS = {"NORMAL/a.png": film(1), "NORMAL/b.png": film(2), "PNEUMONIA/c.png": film(3)}


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    upload = io.BytesIO()
    with zipfile.ZipFile(upload, "w", method) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    upload.seek(0)
    return upload


def patched(change: Callable[[zipfile.ZipInfo], None]) -> io.BytesIO:
    """A sound archive, but for what is changed in its last entry."""
    upload = io.BytesIO()
    with zipfile.ZipFile(upload, "w") as writer:
        for name, content in FILMS.items():
            info = zipfile.ZipInfo(name)
            if content is FILMS["PNEUMONIA/c.png"]:
                change(info)
            writer.writestr(info, content)
    return upload


def with_a_misleading_end() -> io.BytesIO:
    """Too many files, and an end record that holds its own signature as the table's place."""
    raw = packed({f"{n:0200}.png": b"" for n in range(30)}).getvalue()
    return io.BytesIO(raw[:-6] + b"PK\x05\x06" + raw[-2:])


def outcome(folder: Path) -> dict[str, str]:
    frame = sources.open_catalog(str(folder)).frame
    return dict(zip(frame["path"], frame["label"], strict=True))


def nothing_is_left() -> bool:
    return all(path.suffix == ".lock" for path in workspace.data_folder().iterdir())


def test_an_archive_becomes_a_set_that_keeps_its_name() -> None:
    steps: list[tuple[int, int]] = []
    folder = archive.unpack(
        packed(FILMS), "My films (2024).zip", progress=lambda *step: steps.append(step)
    )
    assert folder.parent == workspace.data_folder()
    assert outcome(folder) == {name: name.split("/")[0] for name in FILMS}
    assert (folder / "NORMAL/a.png").read_bytes() == FILMS["NORMAL/a.png"]
    total = sum(map(len, FILMS.values()))
    assert (steps[0], steps[-1]) == ((0, total), (total, total))

    catalog = sources.open_catalog(str(folder))
    assert catalog.name == "My films (2024)"
    assert sources.provenance(catalog)["licence"] == "not reported"
    assert [local.root for local in sources.local_sets()] == [folder]


def test_an_archive_on_the_disk_is_read_from_there(tmp_path: Path) -> None:
    file = tmp_path / "set.zip"
    file.write_bytes(packed(FILMS).getvalue())
    assert len(outcome(archive.unpack(file, file.name))) == 3


def test_the_same_archive_again_gives_the_same_set() -> None:
    first = archive.unpack(packed(FILMS), "films.zip")
    again = archive.unpack(packed(FILMS, zipfile.ZIP_STORED), "films.zip")
    assert again == first
    assert len(sources.local_sets()) == 1


def test_another_archive_of_the_same_name_leaves_the_first_alone() -> None:
    first = archive.unpack(packed(FILMS), "films.zip")
    second = archive.unpack(packed(FILMS | {"NORMAL/a.png": film(9)}), "films.zip")
    assert second != first
    assert (first / "NORMAL/a.png").read_bytes() == FILMS["NORMAL/a.png"]
    assert (second / "NORMAL/a.png").read_bytes() == film(9)


def test_an_archive_cannot_pass_for_the_built_in_set() -> None:
    folder = archive.unpack(packed(FILMS), "phantom.zip")
    assert folder != workspace.data_folder() / sources.BUILT_IN


def test_an_archive_cannot_bring_its_own_licence() -> None:
    record = b'{"content": "", "kept_since": "", "source": {"licence": "CC0"}}'
    folder = archive.unpack(packed(FILMS | {".source.json": record}), "films.zip")
    assert sources.provenance(sources.open_catalog(str(folder)))["licence"] == "not reported"


def test_what_a_mac_adds_is_left_out() -> None:
    extra = {"__MACOSX/NORMAL/._a.png": b"x", "NORMAL/.DS_Store": b"x", "NORMAL/._b.png": b"x"}
    folder = archive.unpack(packed(FILMS | extra), "films.zip")
    assert sorted(path.name for path in folder.rglob("*.*") if path.is_file()) == [
        ".source.json",
        "a.png",
        "b.png",
        "c.png",
    ]


@pytest.mark.parametrize("wrapper", ["set/", "a/b/", "set\\"])
def test_a_folder_around_the_classes_is_taken_off(wrapper: str) -> None:
    folder = archive.unpack(
        packed({wrapper + name: content for name, content in FILMS.items()}), "films.zip"
    )
    assert set(outcome(folder).values()) == {"NORMAL", "PNEUMONIA"}


def test_a_folder_around_a_table_is_taken_off() -> None:
    table = b"path,label\nimages/1.png,NORMAL\n"
    folder = archive.unpack(
        packed({"set/metadata.csv": table, "set/images/1.png": film()}), "set.zip"
    )
    assert outcome(folder) == {"images/1.png": "NORMAL"}


@pytest.mark.parametrize("folder", ["train", "NORMAL"])
def test_a_lone_part_or_class_is_not_taken_for_a_wrapper(folder: str) -> None:
    name = "train/NORMAL/a.png" if folder == "train" else "NORMAL/a.png"
    root = archive.unpack(packed({name: film()}), "films.zip")
    assert outcome(root) == {name: "NORMAL"}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"../a.png": film()}, "outside the archive's own folder"),
        ({"NORMAL/../../a.png": film()}, "outside the archive's own folder"),
        ({"/etc/a.png": film()}, "outside the archive's own folder"),
        ({"..\\a.png": film()}, "outside the archive's own folder"),
        ({"C:\\a.png": film()}, "outside the archive's own folder"),
        ({"NORMAL/a\nb.png": film()}, "control characters"),
        ({f"NORMAL/{'a' * 300}.png": film()}, "too long"),
        (FILMS | {"normal/A.PNG": film()}, "the same file on some systems"),
        (FILMS | {"NORMAL\\a.png": film()}, "the same file on some systems"),
        (FILMS | {"NORMAL": film()}, "both a file and a folder"),
        ({"README.txt": b"no films here"}, "holds no films"),
        ({}, "holds no films"),
    ],
)
def test_unsafe_names_and_empty_archives_are_refused(files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(DatasetError, match=rf"films\.zip .*{reason}"):
        archive.unpack(packed(files), "films.zip")
    assert nothing_is_left()


def test_the_same_name_twice_is_refused() -> None:
    upload = io.BytesIO()
    with zipfile.ZipFile(upload, "w") as writer, pytest.warns(UserWarning, match="Duplicate"):
        writer.writestr("NORMAL/a.png", film(1))
        writer.writestr("NORMAL/a.png", film(2))
    with pytest.raises(DatasetError, match="the same file"):
        archive.unpack(upload, "films.zip")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(stat.S_IFLNK | 0o777, "is a link"), (stat.S_IFIFO | 0o644, "neither a file nor a folder")],
)
def test_links_and_devices_are_refused(mode: int, reason: str) -> None:
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr = mode << 16

    with pytest.raises(DatasetError, match=rf"'PNEUMONIA/c\.png' .*{reason}|{reason}"):
        archive.unpack(patched(change), "films.zip")
    assert nothing_is_left()


def in_the_table_of_contents(offset: int, value: int) -> io.BytesIO:
    """A sound archive with one byte of its last central header changed (APPNOTE 4.3.12)."""
    raw = bytearray(packed(FILMS).getvalue())
    raw[raw.rindex(b"PK\x01\x02") + offset] = value
    return io.BytesIO(bytes(raw))


def test_encrypted_files_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"is encrypted\. Pack it without a password"):
        archive.unpack(in_the_table_of_contents(8, 0x1), "films.zip")
    assert nothing_is_left()


def test_a_file_without_a_name_is_refused() -> None:
    with pytest.raises(DatasetError, match="a file in it has no name"):
        archive.unpack(in_the_table_of_contents(46, 0), "films.zip")


def test_folders_packed_on_windows_are_no_files() -> None:
    folder = archive.unpack(packed(FILMS | {"NORMAL\\": b"", "PNEUMONIA/": b""}), "films.zip")
    assert len(outcome(folder)) == 3


def test_an_unusual_compression_is_refused_by_name() -> None:
    with pytest.raises(DatasetError, match=r"compressed by method 9\. Pack it with the ordinary"):
        archive.unpack(in_the_table_of_contents(10, 9), "films.zip")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(files=2), "holds 3 files, more than the 2 allowed"),
        (Limits(total_bytes=1500), r"unpacks to .* kB, more than the 1\.5 kB allowed"),
        (Limits(file_bytes=1000), "more than the 1.0 kB allowed for a file"),
        (Limits(ratio=0.5), "times its size, which no set of films does"),
    ],
)
def test_each_limit_is_held(limits: Limits, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        archive.unpack(packed(FILMS), "films.zip", limits=limits)
    assert nothing_is_left()


def test_a_bomb_is_refused_by_its_ratio() -> None:
    bomb = packed(FILMS | {"NORMAL/bomb.png": bytes(30_000_000)})
    with pytest.raises(DatasetError, match="times its size"):
        archive.unpack(bomb, "films.zip")
    assert nothing_is_left()


def test_a_bomb_among_honest_bytes_is_refused_by_name() -> None:
    honest = {f"NORMAL/{n}.png": np.random.default_rng(n).bytes(40_000) for n in range(8)}
    bomb = packed(honest | {"NORMAL/bomb.png": bytes(30_000_000)})
    with pytest.raises(DatasetError, match=r"'NORMAL/bomb\.png' unpacks to .* times its size"):
        archive.unpack(bomb, "films.zip")


def test_a_file_longer_than_it_claims_does_not_pass() -> None:
    """The table of contents understates a size; what is unpacked then is too short and refused."""
    with pytest.raises(DatasetError, match=r"damaged at 'PNEUMONIA/c\.png'"):
        archive.unpack(in_the_table_of_contents(24, 10), "films.zip")
    assert nothing_is_left()


def test_damage_leaves_nothing() -> None:
    raw = bytearray(packed(FILMS).getvalue())
    middle = raw.index(b"PNEUMONIA/c.png") + 200
    raw[middle : middle + 40] = bytes(40)
    with pytest.raises(DatasetError, match=r"damaged at 'PNEUMONIA/c\.png'"):
        archive.unpack(io.BytesIO(bytes(raw)), "films.zip")
    assert nothing_is_left()


@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\x07", packed(FILMS).getvalue()[:-30]])
def test_what_is_no_archive_is_told(content: bytes) -> None:
    with pytest.raises(DatasetError, match=r"films\.zip is no zip archive, or a damaged one"):
        archive.unpack(io.BytesIO(content), "films.zip")


def test_a_stop_leaves_nothing() -> None:
    seen: list[int] = []
    with pytest.raises(FetchCancelledError, match="You stopped before"):
        archive.unpack(
            packed(FILMS),
            "films.zip",
            progress=lambda done, total: seen.append(done),
            cancelled=lambda: len(seen) > 1,
        )
    assert 0 < seen[-1] < sum(map(len, FILMS.values()))
    assert nothing_is_left()


def test_a_full_disk_is_told_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.shutil, "disk_usage", lambda path: SimpleNamespace(free=2000))
    with pytest.raises(FetchError, match=r"needs .* of disk space.*2\.0 kB left"):
        archive.unpack(packed(FILMS), "films.zip")


IN_MEMORY = Limits(files=5, total_bytes=1_000_000)


def test_members_come_one_by_one_and_nothing_is_written() -> None:
    other = {"NORMAL/.DS_Store": b"x", "notes.txt": b"x", "more/inner.zip": packed(FILMS).read()}
    found = {m.path: m for m in archive.members(packed(FILMS | other), "a.zip", limits=Limits())}
    assert {path: member.data for path, member in found.items() if member.data} == FILMS
    assert found["notes.txt"].why == "no film by its name"
    assert found["more/inner.zip"].why == "an archive itself"
    assert len(found) == 5
    assert not list(workspace.data_folder().iterdir())


def test_a_damaged_member_does_not_stop_the_others() -> None:
    raw = bytearray(packed(FILMS).getvalue())
    middle = raw.index(b"NORMAL/b.png") + 200
    raw[middle : middle + 40] = bytes(40)
    found = list(archive.members(io.BytesIO(bytes(raw)), "a.zip", limits=IN_MEMORY))
    assert [bool(member.data) for member in found] == [True, False, True]
    assert "a.zip is damaged at 'NORMAL/b.png'" in found[1].why


@pytest.mark.parametrize(
    ("upload", "reason"),
    [
        (lambda: packed({f"{n}.png": film() for n in range(6)}), "more than the 5 allowed"),
        (lambda: packed({"a.png": bytes(2_000_000)}), "more than the 1.0 MB allowed"),
        (lambda: packed({"a.png": bytes(900_000)}), "times its size"),
        (lambda: packed({"../a.png": film()}), "outside the archive's own folder"),
        (lambda: in_the_table_of_contents(8, 0x1), "without a password"),
        (lambda: packed({f"{n:0200}.png": b"" for n in range(30)}), "table of contents"),
        (lambda: with_a_misleading_end(), "table of contents"),
        (lambda: io.BytesIO(b"no archive"), "is no zip archive"),
    ],
)
def test_no_member_of_an_unsafe_archive_is_unpacked(
    upload: Callable[[], io.BytesIO], reason: str
) -> None:
    with pytest.raises(DatasetError, match=rf"a\.zip .*{reason}"):
        next(archive.members(upload(), "a.zip", limits=IN_MEMORY))


def test_mutated_archives_end_in_a_set_or_in_a_sentence() -> None:
    sound = packed(FILMS).getvalue()
    rng = random.Random(0)
    for _ in range(300):
        raw = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        if rng.random() < 0.2:
            del raw[rng.randrange(len(raw)) :]
        try:
            folder = archive.unpack(io.BytesIO(bytes(raw)), "films.zip")
        except DatasetError as error:
            assert str(error).startswith(("films.zip", "films"))
        else:
            assert folder.parent == workspace.data_folder()
    assert not list(workspace.data_folder().glob("*.partial"))
