"""Which files a source is, and of what format each is by its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selfalign_jobs.places.tables.piece import Unreadable

FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".txt": "text",
}
PACKED = {".gz": "gzip", ".zst": "zstd"}  # of all but Parquet, which packs by itself
HIDDEN = (".", "~$", "#")  # what files that nobody means begin with: hidden ones, locks of Office, copies of Emacs
READ = f"{', '.join(FORMATS)} (and {', '.join(f'.jsonl{suffix}' for suffix in PACKED)} and the like)"


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


def _readable(entries: list[Path]) -> Iterator[TableFile]:
    for entry in entries:
        if not entry.name.startswith(HIDDEN) and not entry.is_dir() and is_table(entry.name):
            yield table_file(entry)


def _saved_to_disk(names: set[str]) -> bool:
    return "dataset_dict.json" in names or ("state.json" in names and any(name.endswith(".arrow") for name in names))
