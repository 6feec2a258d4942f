"""An uploaded zip archive -> a set in the workspace, or films in memory; all is checked first."""

import hashlib
import lzma
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from cxr_core import images
from cxr_core.data import library
from cxr_core.data.catalog import METADATA
from cxr_core.data.library import Cancelled, Progress, Source, in_words
from cxr_core.errors import DatasetError

_CHUNK = 1 << 20
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # APPNOTE 4.4.4: encrypted, strongly, with masked headers
_LONGEST_NAME = 255  # bytes of one part of a path, on every common file system
_LONGEST_END = 65_557 + 76  # APPNOTE 4.3.16 with the longest comment, and what zip64 puts before it
_ENTRY_BYTES = 512  # of the table of contents a file, generously
_ARCHIVES = {".zip", ".rar", ".7z", ".tar", ".gz", ".tgz"}
_SPLIT_FOLDERS = {"train", "val", "valid", "validation", "test"}


@dataclass(frozen=True)
class Limits:
    """What an archive may hold; beyond that it is no set of films but an accident or an attack."""

    files: int = 200_000  # with folders
    file_bytes: int = images.MAX_BYTES  # the reader takes no larger film
    total_bytes: int = 100_000_000_000
    ratio: float = 200  # unpacked to packed; films reach 2 to 20, drawn masks 100


LIMITS = Limits()


@dataclass(frozen=True)
class _Entry:
    """One file of the archive and where it goes."""

    info: zipfile.ZipInfo
    path: PurePosixPath  # relative to the set's folder


def unpack(
    upload: Path | BinaryIO,
    filename: str,
    *,
    limits: Limits = LIMITS,
    progress: Progress = library.no_progress,
    cancelled: Cancelled = library.never,
) -> Path:
    """Unpack a zip archive into the workspace and return the set's folder.

    The same archive again gives the folder that is there. Hidden files and those that macOS adds
    are left out, and a folder that merely wraps the set is taken off.

    Args:
        upload: the archive, a path or an open binary file that can seek.
        filename: the archive's name as its user knows it; gives the set its name.
        limits: what it may hold.
        progress: called in the caller's thread with (bytes unpacked, bytes in all).
        cancelled: asked now and then; true ends the work and leaves nothing.

    Raises:
        DatasetError: the archive is damaged, unsafe, over the limits or without films; the text
            names the entry.
        FetchError: the disk has no room.
        FetchCancelledError: ``cancelled()`` was true.
    """
    with _opened(upload, filename) as archive:
        entries = _unwrapped(_checked(archive, filename, limits))
        if not any(_could_be_film(entry.path) for entry in entries):
            raise DatasetError(
                f"{filename} holds no films. Pack a folder a class (NORMAL, PNEUMONIA), the same "
                f"inside train, val and test, or films with a {METADATA}."
            )
        total = sum(entry.info.file_size for entry in entries)
        title = PurePosixPath(filename).stem or "Uploaded set"
        source = Source(
            key=f"zip:{title}",
            title=title,
            summary=f"Uploaded as {filename}.",
            bytes=sum(entry.info.compress_size for entry in entries),
        )

        def fill(folder: Path) -> None:
            library.require_space(total, title)
            done = 0
            progress(done, total)
            for entry in entries:
                target = folder / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    for chunk in _chunks(archive, entry.info, filename):
                        library.stop_if(cancelled, title)
                        file.write(chunk)
                        done += len(chunk)
                        progress(done, total)

        return library.keep(source, _folder_name(title), _content(entries), fill)


@dataclass(frozen=True)
class Member:
    """One file of an archive that was read in memory."""

    path: str  # inside the archive
    data: bytes | None  # None where it was not taken
    why: str = ""  # then: a clause ("no film by its name"), or a whole sentence of damage


def members(upload: BinaryIO, filename: str, *, limits: Limits) -> Iterator[Member]:
    """Yield the files of a zip archive one by one, unpacked in memory: nothing touches the disk.

    All is checked as for :func:`unpack` before any is unpacked. Hidden files are passed over; what
    cannot be a film is named without being unpacked, and a damaged member does not stop the others.

    Args:
        upload: the archive, an open binary file that can seek.
        filename: the archive's name as its user knows it.
        limits: what it may hold.

    Raises:
        DatasetError: the archive is damaged, unsafe or over the limits; the text names the entry.
    """
    _check_table(upload, filename, limits)
    with _opened(upload, filename) as archive:
        for entry in _checked(archive, filename, limits):
            path = str(entry.path)
            if entry.path.suffix.lower() in _ARCHIVES:
                yield Member(path, None, "an archive itself")
            elif not _could_be_film(entry.path):
                yield Member(path, None, "no film by its name")
            else:
                try:
                    yield Member(path, b"".join(_chunks(archive, entry.info, filename)))
                except DatasetError as error:
                    yield Member(path, None, str(error))


def _check_table(upload: BinaryIO, filename: str, limits: Limits) -> None:
    """Refuse a table of contents of millions of entries, which zipfile would read into memory."""
    start = max(0, upload.seek(0, os.SEEK_END) - _LONGEST_END)
    upload.seek(start)
    tail = upload.read()
    end = tail.rfind(b"PK\x05\x06", 0, -18)  # a record has 22 bytes, and may hold these within
    if end < 0:
        return  # no archive, as zipfile will find
    size = int.from_bytes(tail[end + 12 : end + 16], "little")
    if tail[max(0, end - 20) : end].startswith(b"PK\x06\x07"):  # APPNOTE 4.3.14 and 4.3.15
        size = int.from_bytes(tail[max(0, end - 36) : max(0, end - 28)], "little")
    if size > limits.files * _ENTRY_BYTES:
        _refuse(filename, f"its table of contents is far too long for {limits.files:,} files")


def _opened(upload: Path | BinaryIO, filename: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(upload)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, zlib.error) as error:
        raise DatasetError(
            f"{filename} is no zip archive, or a damaged one. Pack the folder as .zip again (not "
            ".rar, .7z or .tar) and upload it anew."
        ) from error


def _checked(archive: zipfile.ZipFile, filename: str, limits: Limits) -> list[_Entry]:
    """Return the files to unpack; nothing of the archive but its table of contents is read."""
    refuse = partial(_refuse, filename)
    infos = archive.infolist()
    if len(infos) > limits.files:
        refuse(f"it holds {len(infos):,} files, more than the {limits.files:,} allowed")
    packed = max(1, _size(archive))
    total = sum(info.file_size for info in infos)
    if total > limits.total_bytes:
        refuse(
            f"it unpacks to {in_words(total)}, more than the {in_words(limits.total_bytes)} allowed"
        )
    if total > limits.ratio * packed:
        refuse(f"it unpacks to {total / packed:,.0f} times its size, which no set of films does")

    entries = []
    taken: dict[str, str] = {}
    for info in infos:
        path = _safe_path(info, filename)
        if _left_out(path):
            continue
        if not path.parts and not _is_folder(info):
            refuse("a file in it has no name")
        _check_entry(info, filename, limits)
        if _is_folder(info):
            continue
        same = _folded(path)
        if same in taken:
            refuse(f"'{info.filename}' and '{taken[same]}' are the same file on some systems")
        taken[same] = info.filename
        entries.append(_Entry(info, path))
    for entry in entries:
        for folder in entry.path.parents:
            if _folded(folder) in taken:
                refuse(f"'{taken[_folded(folder)]}' is both a file and a folder")
    return entries


def _check_entry(info: zipfile.ZipInfo, filename: str, limits: Limits) -> None:
    refuse = partial(_refuse, filename)
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the packing system is not a Unix
    if kind == stat.S_IFLNK:
        refuse(f"'{info.filename}' is a link. Pack the films themselves")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        refuse(f"'{info.filename}' is neither a file nor a folder")
    if info.flag_bits & _ENCRYPTED:
        refuse(f"'{info.filename}' is encrypted. Pack it without a password")
    if info.compress_type not in _METHODS:
        refuse(
            f"'{info.filename}' is compressed by method {info.compress_type}. Pack it with the "
            "ordinary one (deflate)"
        )
    if info.file_size > limits.file_bytes:
        refuse(
            f"'{info.filename}' unpacks to {in_words(info.file_size)}, more than the "
            f"{in_words(limits.file_bytes)} allowed for a file"
        )
    if info.file_size > _CHUNK and info.file_size > limits.ratio * max(1, info.compress_size):
        refuse(
            f"'{info.filename}' unpacks to {info.file_size / max(1, info.compress_size):,.0f} "
            "times its size, which no film does"
        )


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith(("/", "\\"))  # some Windows programs pack with the latter


def _safe_path(info: zipfile.ZipInfo, filename: str) -> PurePosixPath:
    """Return an entry's path, known to stay inside the folder it will be unpacked to."""
    name = info.filename.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or PureWindowsPath(name).drive:
        _refuse(filename, f"'{info.filename}' would be written outside the archive's own folder")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        _refuse(filename, f"the name {info.filename!r} holds control characters")
    if any(len(part.encode()) > _LONGEST_NAME for part in parts):
        _refuse(filename, f"the name '{info.filename[:60]}...' is too long")
    return PurePosixPath(*parts)


def _refuse(filename: str, reason: str) -> None:
    raise DatasetError(f"{filename} was not unpacked: {reason}.")


def _left_out(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part.upper() == "__MACOSX" for part in path.parts)


def _folded(path: PurePosixPath) -> str:
    """Return what file systems that ignore case and composition take a path for."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _unwrapped(entries: Sequence[_Entry]) -> list[_Entry]:
    """Take off folders that merely wrap the set; a class or a part of the set is none of them."""
    kept = list(entries)
    while len({entry.path.parts[0] for entry in kept}) == 1:
        inside = [PurePosixPath(*entry.path.parts[1:]) for entry in kept]
        has_table = any(str(path).lower() == METADATA for path in inside)
        has_folders = any(len(path.parts) > 1 for path in inside)
        has_films = any(
            path.suffix and _could_be_film(path) for path in inside if len(path.parts) == 1
        )
        if kept[0].path.parts[0].lower() in _SPLIT_FOLDERS:
            break
        if not has_table and (has_films or not has_folders):
            break
        kept = [_Entry(entry.info, path) for entry, path in zip(kept, inside, strict=True)]
    return kept


def _could_be_film(path: PurePosixPath) -> bool:
    suffix = path.suffix.lower()
    return suffix in images.SUFFIXES or suffix[1:].isdigit()  # 1.2.840.10008 is a DICOM UID


def _content(entries: Sequence[_Entry]) -> str:
    """Return a fingerprint of paths, sizes and checksums, whatever packed them."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.path):
        digest.update(f"{entry.path}\0{entry.info.file_size}\0{entry.info.CRC}\n".encode())
    return f"zip:{digest.hexdigest()}"


def _folder_name(title: str) -> str:
    return f"zip-{re.sub(r'[^A-Za-z0-9_-]+', '_', title)[:60].strip('_') or 'set'}"


def _size(archive: zipfile.ZipFile) -> int:
    file = archive.fp
    assert file is not None  # open for as long as the archive is
    return file.seek(0, os.SEEK_END)


def _chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo, filename: str) -> Iterator[bytes]:
    """Yield a file's content; zipfile compares length and checksum with the table of contents."""
    try:
        with archive.open(info) as packed:
            while chunk := packed.read(_CHUNK):
                yield chunk
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OSError,
    ) as error:
        raise DatasetError(
            f"{filename} is damaged at '{info.filename}'. Pack the folder again and upload it anew."
        ) from error
