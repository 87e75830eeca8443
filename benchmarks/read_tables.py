"""Speed and memory of reading large tables: every row looked at, then `count` of them drawn, as a step does.

    python benchmarks/read_tables.py --gb 2                          # JSONL, CSV, Parquet, packed JSONL
    python benchmarks/read_tables.py --rows 10000000 --formats jsonl

Each format is written once into a temporary folder and read by a process of its own, whose peak memory counts. MB are of
the file, unpacked. The page cache is warm: what is measured is the reading, not the disk.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from selfalign_api.sources import DataSource
from selfalign_jobs.places.sources import open_source
from selfalign_jobs.recipes.personas import persona
from selfalign_jobs.recipes.tables import draw

T = TypeVar("T")

BLOCKS, BLOCK_ROWS = 10, 10_000  # that differ; they are written over and over
DRAWN = 60_000

Rows = list[tuple[str, int, str]]  # persona, id, note


def blocks() -> list[Rows]:
    """Rows of about 250 bytes: a persona, a number, and a note that nobody reads, with quotes and a line break."""
    note = 'A note of the "annotator",\nwhich the run does not name, and which is about as long as the rest. '
    numbers = [range(start, start + BLOCK_ROWS) for start in range(0, BLOCKS * BLOCK_ROWS, BLOCK_ROWS)]
    return [[(persona(number), number, note) for number in block] for block in numbers]


def over_and_over(encoded: list[T], rows: int) -> Iterator[T]:
    """As many blocks as come to so many rows, at least."""
    return islice(cycle(encoded), -(-rows // BLOCK_ROWS))


def as_jsonl(block: Rows) -> bytes:
    """Lines of JSON."""
    return "".join(json.dumps({"persona": p, "id": i, "note": n}) + "\n" for p, i, n in block).encode()


def as_csv(block: Rows) -> bytes:
    """Lines of CSV."""
    return "".join(f'"{p}",{i},"{n.replace(chr(34), chr(34) * 2)}"\n' for p, i, n in block).encode()


def write_lines(file: Path, rows: int, lines: Callable[[Rows], bytes], header: bytes = b"") -> int:
    """Write a file of lines; how large it is, unpacked."""
    size = 0
    encoded = [lines(block) for block in blocks()]
    with gzip.open(file, "wb", compresslevel=1) if file.suffix == ".gz" else file.open("wb") as stream:
        size += stream.write(header)
        for block in over_and_over(encoded, rows):
            size += stream.write(block)
    return size


def write_parquet(file: Path, rows: int) -> int:
    """Write Parquet; how large its columns are."""
    schema = pa.schema([("persona", pa.string()), ("id", pa.int64()), ("note", pa.string())])
    size = 0
    tables = [pa.table([pa.array(column) for column in zip(*block, strict=True)], schema=schema) for block in blocks()]
    with pq.ParquetWriter(file, schema) as writer:
        for table in over_and_over(tables, rows):
            writer.write_table(table)
            size += table.nbytes
    return size


WRITERS: dict[str, Callable[[Path, int], int]] = {
    "jsonl": lambda file, rows: write_lines(file, rows, as_jsonl),
    "jsonl.gz": lambda file, rows: write_lines(file, rows, as_jsonl),
    "csv": lambda file, rows: write_lines(file, rows, as_csv, b"persona,id,note\n"),
    "parquet": write_parquet,
}


def read(url: str) -> None:
    """Read a source as a step does, and print what it took."""
    began = time.perf_counter()
    rows = open_source("personas", DataSource(url=url), {})
    looked = time.perf_counter()
    options = {"seed": 0, "apart": 0, "part": 0, "parts": 1, "count": min(DRAWN, rows.num_rows), "blank": False}
    drawn = draw((rows,), options)
    took = {
        "look": looked - began,
        "draw": time.perf_counter() - looked,
        "rows": rows.num_rows,
        "drawn": drawn.num_rows,
    }
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps(took | {"peak_mb": peak / 1024}))


def main() -> None:
    """Write, read and tell, a line a format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=2, help="of JSONL; the other formats have the same rows")
    parser.add_argument("--rows", type=int, help="instead of --gb")
    parser.add_argument("--formats", nargs="+", choices=WRITERS, default=[*WRITERS])
    parser.add_argument("--folder", help="where the files are written (removed at the end)")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        read(given.read)
        return
    row_bytes = len(as_jsonl(blocks()[0])) / BLOCK_ROWS
    rows = given.rows or int(given.gb * 1e9 / row_bytes)
    print(f"{rows} rows, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for kind in given.formats:
            file = Path(folder) / f"rows.{kind}"
            megabytes = WRITERS[kind](file, rows) / 1e6
            command = [sys.executable, __file__, "--read", file.as_uri()]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"{kind:9} {megabytes:8.0f} MB  every row looked at: {megabytes / told['look']:5.0f} MB/s  "
                f"{told['drawn']} drawn: {megabytes / told['draw']:5.0f} MB/s  peak {told['peak_mb']:.0f} MB",
                flush=True,
            )
            file.unlink()


if __name__ == "__main__":
    main()
