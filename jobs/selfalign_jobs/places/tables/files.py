"""Which files a source is, of what format each, and whether they are what their names say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from selfalign_jobs.places.tables.piece import Unreadable, holds_nul
from selfalign_jobs.places.tables.stream import MARK, undamaged, unpacked

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".txt": "text",
}
PACKED = {".gz": "gzip", ".zst": "zstd"}  # of all but Parquet, which packs by itself
READ = f"{', '.join(FORMATS)} (and {', '.join(f'.jsonl{suffix}' for suffix in PACKED)} and the like)"
HEAD_BYTES = 4096

# What files begin with that are not what their names say, and what to do.
OTHERS = {
    b"version https://git-lfs.github.com/spec/": "is a pointer of Git LFS, not the file itself; fetch it with git lfs pull",
    b"ARROW1": "is an Arrow file; write it with to_parquet",
    b"\x1f\x8b": "is packed by gzip; name it so (.jsonl.gz)",
    b"\x28\xb5\x2f\xfd": "is packed by zstd; name it so (.jsonl.zst)",
    b"BZh": "is packed by bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "is packed by xz; unpack it, or pack it with gzip",
    b"PK\x03\x04": "is a zip archive or a workbook of Excel; unpack it, or save the sheet as CSV (UTF-8)",
    b"\xff\xfe": "is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
}
PAGES = (b"<!doctype html", b"<html")
PARQUET = b"PAR1"


@dataclass(frozen=True)
class TableFile:
    """A file that is read."""

    path: Path
    format: str
    compression: str | None = None  # as pyarrow names it


def table_file(path: Path) -> TableFile:
    """The file by its name. Raises Unreadable for a kind that is not read."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    compression = PACKED.get(suffixes[-1]) if suffixes else None
    kind = FORMATS.get("".join(suffixes[-2:-1] if compression else suffixes[-1:]))
    if kind is None or (compression and kind == "parquet"):
        raise Unreadable(f"is of no kind that is read; write one that ends in {READ}")
    return TableFile(path, kind, compression)


def is_table(name: str) -> bool:
    """Whether a file of this name is one that is read."""
    try:
        table_file(Path(name))
    except Unreadable:
        return False
    return True


def by_content(file: TableFile) -> TableFile:
    """The same with JSON and JSON lines told apart by the first byte, as on the hub, where names say less."""
    if file.format not in ("json", "jsonl"):
        return file
    with undamaged(), unpacked(file.path, file.compression) as stream:
        start = bytes(stream.read(HEAD_BYTES)).removeprefix(MARK).lstrip()
    return replace(file, format="json" if start.startswith(b"[") else "jsonl")


def in_folder(folder: Path) -> list[TableFile]:
    """The files of a folder that are read, by name. Hidden ones and what is of no kind are passed over.

    Raises Unreadable for a folder without any, and for one where a text lies beside tables.
    """
    entries = sorted(folder.iterdir())
    files = list(_readable(entries))
    if _saved_to_disk({entry.name for entry in entries}):
        raise Unreadable("is a dataset as save_to_disk writes it; write it with to_parquet or to_json")
    if not files:
        below = [entry.name for entry in entries if entry.is_dir() and any(_readable(sorted(entry.iterdir())))]
        hint = f"; its folders {', '.join(below)} do" if below else ""
        raise Unreadable(f"holds no {READ} file{hint}; write the URL of one")
    if len({file.format == "text" for file in files}) > 1:
        text = next(file.path.name for file in files if file.format == "text")
        raise Unreadable(f"holds a text ({text}) beside tables; take it out, or write the URL of one file")
    return files


def check_content(file: TableFile) -> None:
    """Look at a file's first bytes. Raises Unreadable when they are not of what its name says."""
    try:
        size = file.path.stat().st_size
        with file.path.open("rb") as stream:
            start = stream.read(HEAD_BYTES)
    except PermissionError:
        raise Unreadable(f"cannot be read by user {os.getuid()}; give it the permission") from None
    except FileNotFoundError:
        raise Unreadable("is a link to nothing; put the file there") from None
    if size == 0:
        raise Unreadable("is empty; write the URL of a file with at least one row")
    if file.compression is not None:
        _check_packed(start, file.compression)
        with undamaged(), unpacked(file.path, file.compression) as packed:
            start = bytes(packed.read(HEAD_BYTES))
    for magic, words in OTHERS.items():
        if start.startswith(magic):
            raise Unreadable(words)
    if start.startswith(PARQUET) and file.format != "parquet":
        raise Unreadable("is Parquet; name it .parquet")
    if start.lstrip().lower().startswith(PAGES):
        raise Unreadable("is a web page, not the file itself; fetch that (on the hub the link with /resolve/)")
    _check_format(file.format, start.removeprefix(MARK).lstrip())


def _check_packed(start: bytes, compression: str) -> None:
    magic = next(magic for magic, words in OTHERS.items() if f"packed by {compression};" in words)
    if not start.startswith(magic):
        raise Unreadable(
            f"is not packed by {compression}, as its name says; name it without that ending, or fetch it again"
        )


def _check_format(kind: str, start: bytes) -> None:
    if kind == "parquet":
        if not start.startswith(PARQUET):
            raise Unreadable(
                f"is no Parquet; it begins with {start[:20].decode('utf-8', 'replace')!r}: name it for what it is"
            )
        return
    if b"\0" in start:
        raise holds_nul(None)
    if kind == "jsonl" and start.startswith(b"["):
        raise Unreadable("is a JSON array: name it .json; JSON lines have an object each")
    if kind == "csv" and start.startswith((b'{"', b"[{")):
        raise Unreadable(f"is JSON: name it {'.jsonl' if start.startswith(b'{') else '.json'}")


def _readable(entries: list[Path]) -> Iterator[TableFile]:
    for entry in entries:
        if not entry.name.startswith((".", "~$", "#")) and not entry.is_dir() and is_table(entry.name):
            yield table_file(entry)


def _saved_to_disk(names: set[str]) -> bool:
    return "dataset_dict.json" in names or ("state.json" in names and any(name.endswith(".arrow") for name in names))
