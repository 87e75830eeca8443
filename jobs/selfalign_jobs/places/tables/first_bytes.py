"""What a file is by its first bytes: another thing than its name says is refused before it is read."""

from __future__ import annotations

import stat
from dataclasses import replace

from selfalign_jobs.places.tables.files import TableFile
from selfalign_jobs.places.tables.piece import Unreadable, holds_nul
from selfalign_jobs.places.tables.stream import MARK, undamaged, unpacked

HEAD_BYTES = 4096

PACKED_BY = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
OTHERS = {
    b"version https://git-lfs.github.com/spec/": "is a pointer of Git LFS, not the file itself; fetch it with git lfs pull",
    b"ARROW1\0\0": "is an Arrow file; write it with to_parquet",
    PACKED_BY["gzip"]: "is packed by gzip; name it so (.jsonl.gz)",
    PACKED_BY["zstd"]: "is packed by zstd; name it so (.jsonl.zst)",
    **{b"BZh%d1AY&SY" % level: "is packed by bzip2; unpack it, or pack it with gzip" for level in range(1, 10)},
    b"\xfd7zXZ": "is packed by xz; unpack it, or pack it with gzip",
    b"PK\x03\x04": "is a zip archive or a workbook of Excel; unpack it, or save the sheet as CSV (UTF-8)",
    b"\xff\xfe": "is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
}
PARQUET = b"PAR1"


def check_content(file: TableFile) -> None:
    """Look at a file's first bytes. Raises Unreadable when they are not of what its name says, or there are none."""
    try:
        if not stat.S_ISREG(file.path.stat().st_mode):
            raise Unreadable("is a pipe or a device, and a source is read more than once; write it to a file")
        with file.path.open("rb") as stream:
            start = stream.read(HEAD_BYTES)
    except FileNotFoundError:
        raise Unreadable("is a link to nothing; put the file there") from None
    if not start:
        raise Unreadable("is empty; write the URL of a file with at least one row")
    if file.compression is not None:
        if not start.startswith(PACKED_BY[file.compression]):
            raise Unreadable(f"is not packed by {file.compression}, as its name says; name it without that ending")
        start = _head(file)
    for magic, words in OTHERS.items():
        if start.startswith(magic):
            raise Unreadable(words)
    _check_format(file.format, start.removeprefix(MARK).lstrip())


def by_content(file: TableFile) -> TableFile:
    """The same with JSON and JSON lines told apart by the first byte, as on the hub, where names say less."""
    if file.format not in ("json", "jsonl"):
        return file
    is_array = _head(file).removeprefix(MARK).lstrip().startswith(b"[")
    return replace(file, format="json" if is_array else "jsonl")


def _head(file: TableFile) -> bytes:
    with undamaged(), unpacked(file.path, file.compression) as stream:
        return bytes(stream.read(HEAD_BYTES))


def _check_format(kind: str, start: bytes) -> None:
    if kind == "parquet":
        if not start.startswith(PARQUET):
            begins = repr(start[:20].decode("utf-8", "replace"))
            raise Unreadable(f"is no Parquet; it begins with {begins}: name it for what it is")
        return
    if b"\0" in start:
        if start.startswith(PARQUET):
            raise Unreadable("is Parquet; name it .parquet")
        raise holds_nul(None)
    if start.lower().startswith((b"<!doctype html", b"<html")[: 1 if kind == "text" else 2]):
        raise Unreadable("is a web page, not the file itself; fetch that (on the hub the link with /resolve/)")
    if kind == "jsonl" and start.startswith(b"["):
        raise Unreadable("is a JSON array: name it .json; JSON lines have an object each")
    if kind == "csv" and start.startswith((b'{"', b"[{")):
        raise Unreadable(f"is JSON: name it {'.jsonl' if start.startswith(b'{') else '.json'}")
