"""Files with the people of the cases, in every format, and runs that name them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cases.case import PEOPLE, Case, Room, with_personas

MARK = b"\xef\xbb\xbf"
READS = {"personas": {"persona": [*PEOPLE]}}


def table(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """CSV."""
    rows = list(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def lines(rows: Iterable[object]) -> bytes:
    """JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def array(rows: Iterable[object]) -> bytes:
    """A JSON array."""
    return json.dumps(list(rows)).encode()


def text(rows: Iterable[str]) -> bytes:
    """Lines of text."""
    return "".join(f"{row}\n" for row in rows).encode()


def parquet(columns: Mapping[str, Any] | pa.Table) -> bytes:
    """Parquet."""
    sink = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(dict(columns)), sink)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    """Packed by zstd."""
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def zipped(content: bytes) -> bytes:
    """A zip archive, as Excel's workbooks are too."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("people.csv", content)
    return sink.getvalue()


def rows(**others: object) -> list[dict[str, object]]:
    """A row a person; `others` stand beside: a value, or a function of the row's number."""
    return [
        {"persona": who} | {name: value(i) if callable(value) else value for name, value in others.items()}
        for i, who in enumerate(PEOPLE)
    ]


def reads(name: str, file: str, content: bytes, **changes: Any) -> Case:
    """A file whose personas are read as they were written."""
    return Case(name, with_personas(file, content, **changes), reads=READS)


def refused(name: str, file: str, content: bytes, *says: str, **changes: Any) -> Case:
    """A file that is refused in these words."""
    return Case(name, with_personas(file, content, **changes), code=64, says=says)


def with_folder(files: Mapping[str, bytes]) -> Callable[[Room], Path]:
    """A run whose personas are a folder of these files; a name that ends in / is a folder in it."""

    def write(room: Room) -> Path:
        for name, content in files.items():
            if name.endswith("/"):
                (room.folder / "people" / name).mkdir(parents=True)
            else:
                room.data(f"people/{name}", content)
        return room.run({"data.personas.url": room.url("people")})

    return write


def with_link(name: str) -> Callable[[Room], Path]:
    """A folder of which one file is a link whose file is not there, as git-annex leaves it."""

    def write(room: Room) -> Path:
        run = with_folder(HALVES)(room)
        (room.folder / "people" / name).symlink_to("../.git/annex/objects/x")
        return run

    return write


def with_prompts(file: str, content: bytes, columns: dict[str, str] | None = None) -> Callable[[Room], Path]:
    """A run that asks prompts of the user's."""
    return lambda room: room.run(
        {
            "data": {"prompts": {"url": room.data(file, content), "count": 2, "draw": "Same"}}
            | ({"prompts": {"url": room.url(file), "columns": columns, "count": 2, "draw": "Same"}} if columns else {})
        }
    )


def with_references(file: str, content: bytes) -> Callable[[Room], Path]:
    """A run whose answers are compared with references."""
    columns = {"prompt": "prompt", "reference": "reference"}
    checks = [{"name": "accuracy", "type": "ExactMatch"}]
    return lambda room: room.run(
        {
            "evaluation": {
                "when": "EachIteration",
                "prompts": {"url": room.data(file, content), "columns": columns},
                "checks": checks,
            }
        }
    )


HALVES = {"1.jsonl": lines(rows()[:30]), "2.jsonl": lines(rows()[30:])}
