"""Digests of what a run reads: files of data, folders of weights."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from selfalign_jobs.machine import cache_folder

BIG_FILE = 64 * 2**20  # bytes; from here on a file's digest is remembered
SKIPPED = {".git", ".cache", "README.md"}  # what does not change what a model computes


def folder_digest(folder: Path) -> str:
    """Digest of a model folder: names and contents of its files."""
    return files_digest(
        (file for file in sorted(folder.rglob("*")) if file.is_file() and not _skipped(file, folder)), folder
    )


def files_digest(files: Iterable[Path], root: Path) -> str:
    """Digest of files by their names below `root` and their contents."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.relative_to(root).as_posix()}\0{_file_digest(file)}\n".encode())
    return "sha256:" + whole.hexdigest()


def _skipped(file: Path, root: Path) -> bool:
    return any(part in SKIPPED for part in file.relative_to(root).parts)


def _file_digest(file: Path) -> str:
    if file.stat().st_size < BIG_FILE:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    remembered = _Remembered()
    return remembered.get(file) or remembered.put(file, _hash_big(file))


def _hash_big(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Remembered:
    """Digests of big files by path, size, times and inode, so that a finished run of a 9B model is recognised in seconds."""

    def __init__(self) -> None:
        self.folder = cache_folder("digests")

    def get(self, file: Path) -> str | None:
        try:
            found = self._entry(file).read_text(encoding="ascii")
        except (OSError, ValueError):
            return None
        return found if re.fullmatch("[0-9a-f]{64}", found) else None  # a broken entry is written again

    def put(self, file: Path, digest: str) -> str:
        entry = self._entry(file)
        with suppress(OSError):  # no room, or nobody's cache: the file is read again next time
            entry.parent.mkdir(parents=True, exist_ok=True)
            temporary = entry.with_suffix(f".{os.getpid()}")
            temporary.write_text(digest, encoding="ascii")
            temporary.replace(entry)
        return digest

    def _entry(self, file: Path) -> Path:
        status = file.stat()
        key = json.dumps([str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino])
        return self.folder / hashlib.sha256(key.encode()).hexdigest()
