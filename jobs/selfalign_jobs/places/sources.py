"""Tables of the user's, read with standard column names: files of Parquet, JSONL, JSON, CSV or text, one or a folder of
them, here, in a bucket or on the hub; and whole datasets of the hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from selfalign_api.errors import ConfigError
from selfalign_api.places import Bucket, HubDataset, local_path, parse_place
from selfalign_api.plan import DataSource
from selfalign_jobs.places import hub
from selfalign_jobs.places.bucket import list_bucket
from selfalign_jobs.recipes import personas

# What a table of each kind must have, and may have.
REQUIRED = {"personas": "persona", "prompts": "prompt", "evaluation": "prompt"}
OPTIONAL: Mapping[str, tuple[str, ...]] = {"evaluation": ("reference",)}


def _read_text(path: Path) -> pa.Table:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return pa.table({"text": pa.array([line for line in lines if line], pa.string())})


def _read_json(path: Path) -> pa.Table:
    """A JSON array of objects, as many published evaluation sets are."""
    try:
        return pa.Table.from_pylist(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise pa.ArrowInvalid(f"it is no JSON array of objects ({error})") from error


READERS: Mapping[str, Callable[[Path], pa.Table]] = {
    ".parquet": pq.read_table,
    ".jsonl": pajson.read_json,
    ".ndjson": pajson.read_json,
    ".json": _read_json,
    ".csv": pacsv.read_csv,
    ".txt": _read_text,
}


def read_source(name: str, source: DataSource, mounts: Mapping[str, str]) -> pa.Table:
    """The table `name` of the run's data, with its standard columns only.

    Raises ConfigError for a file that is missing, empty, of another kind, or lacks a column (with those that are there).
    """
    if source.url is None:
        return personas.table()
    field = field_of(name)
    table, where, is_text = _read(name, source, mounts)
    if table.num_rows == 0:
        raise ConfigError.one(
            f"{field}.url", f"{where} has no rows; write the URL of a file with at least one", source.url
        )
    wanted = [(REQUIRED[name], True), *((column, False) for column in OPTIONAL.get(name, ()))]
    if unread := [column for column in source.columns if column not in dict(wanted)]:
        message = f"is not read here; {field} reads {', '.join(dict(wanted))}"
        raise ConfigError.one(f"{field}.columns.{unread[0]}", message, source.columns[unread[0]])
    columns = {}
    for standard, required in wanted:
        given = source.columns.get(standard)
        actual = given or ("text" if is_text else standard)
        if actual in table.column_names:
            columns[standard] = table[actual].cast(pa.string())
        elif required or given:
            raise ConfigError.one(
                f"{field}.columns.{standard}",
                f"{where} has no column {actual}; it has {', '.join(table.column_names)}; "
                f"write columns: {{{standard}: COLUMN}}",
            )
    result = pa.table(columns)
    blank = sum(1 for value in result[REQUIRED[name]].to_pylist() if value is None or not value.strip())
    if blank:
        raise ConfigError.one(
            f"{field}.url", f"{blank} of {result.num_rows} rows have an empty {REQUIRED[name]}; remove them", source.url
        )
    return result


def here(url: str, mounts: Mapping[str, str], beside: Path = Path(), field: str = "url") -> Path:
    """The file or folder of this machine that a URL of data names, fetched here if need be; it need not exist.

    Raises ConfigError at `field` for one that its bucket or hub does not have.
    """
    place = parse_place(url, field)
    if isinstance(place, Bucket):
        return list_bucket(url, field).fetch()
    if isinstance(place, HubDataset) and place.file is not None:
        return hub.fetch_file(place, field)
    return local_path(url, mounts, beside, field)


def _read(name: str, source: DataSource, mounts: Mapping[str, str]) -> tuple[pa.Table, str, bool]:
    """The table as it stands there, what to call it, and whether it is plain text."""
    assert source.url is not None
    field = field_of(name)
    place = parse_place(source.url, f"{field}.url")
    if isinstance(place, HubDataset) and place.file is None:
        return hub.read_dataset(place, source.subset, source.split or "train", f"{field}.url"), place.repo, False
    path = here(source.url, mounts, field=f"{field}.url")
    tables = [_read_file(field, file) for file in source_files(name, path)]
    return pa.concat_tables(tables, promote_options="default"), path.name, path.suffix == ".txt"


def field_of(name: str) -> str:
    """The path in the spec of a source."""
    return "spec.evaluation.prompts" if name == "evaluation" else f"spec.data.{name}"


def source_files(name: str, path: Path) -> list[Path]:
    """The files of a source, sorted: itself, or all readable files of a folder."""
    field = f"{field_of(name)}.url"
    if not path.exists():
        raise ConfigError.one(field, f"there is nothing at {path}; write the URL of a file or folder that exists")
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.suffix in READERS)
    if not files:
        raise ConfigError.one(field, f"{path} holds no {', '.join(READERS)} file; write the URL of one")
    for file in files:
        if file.suffix not in READERS:
            raise ConfigError.one(
                field, f"{file.name} is of no kind that is read; write one that ends in {', '.join(READERS)}"
            )
        if file.stat().st_size == 0:
            raise ConfigError.one(field, f"{file} is empty; write the URL of a file with at least one row")
    return files


def _read_file(field: str, file: Path) -> pa.Table:
    try:
        return READERS[file.suffix](file)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise ConfigError.one(f"{field}.url", f"{file} cannot be read as {file.suffix[1:]}: {error}") from error
