"""The store: a run's folder on any file system that pyarrow.fs reaches, where nothing is ever half written.

    <url>/<namespace>/<run>/owner.json  plan.json
                            iter-<k>/<step>/parts/…  checkpoints/…  manifest.json

A commit is whole: locally a temporary name, write, fsync, rename, fsync of the folder; on an object store one put. A
step's manifest is written last, its presence means done, and readers follow manifests only: what a killed or deposed
writer leaves behind is never read.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from selfalign_api.errors import ConfigError
from selfalign_api.places import local_path
from selfalign_api.plan import Plan
from selfalign_api.plan_values import Frozen, Json
from selfalign_jobs.places.committed import committed_here

PLAN_FILE = "plan.json"
REPORT, SUMMARY = "report.html", "summary.json"  # of a run, for people and for scripts
MANIFEST = "manifest.json"
CHUNK_BYTES = 8 << 20
FILES, RANGES = 4, 8  # that are copied at a time: files, and ranges of each
ROW_GROUP = 131_072  # rows that a reader of a Parquet file decodes at once
GOOGLE_RETRY_SECONDS = 60  # its client goes on for a quarter of an hour else, also without any credentials

Content = bytes | mmap.mmap
M = TypeVar("M", bound=BaseModel)
Item = TypeVar("Item")


class Folder:
    """A folder of the store. Names are relative to it and use `/`."""

    def __init__(self, filesystem: pafs.FileSystem, path: str) -> None:
        self.filesystem = filesystem
        self.path = path.rstrip("/")

    @classmethod
    def open(cls, url: str) -> Self:
        """The folder at a URL (`file://`, `s3://`, `gs://`); it need not exist yet.

        Raises ConfigError for a URL that pyarrow.fs cannot serve.
        """
        try:
            filesystem, path = filesystem_of(url)
        except (pa.ArrowInvalid, ValueError) as error:
            message = f"no store can be opened here ({error}); write file:///PATH, s3://BUCKET/PATH or gs://BUCKET/PATH"
            raise ConfigError.one("spec.storage.url", message, url) from error
        return cls(filesystem, path)

    def child(self, name: str) -> Folder:
        """A folder inside this one."""
        return Folder(self.filesystem, f"{self.path}/{name}")

    @property
    def local(self) -> Path | None:
        """Where this folder lies on this machine; None on an object store."""
        return Path(self.path) if isinstance(self.filesystem, pafs.LocalFileSystem) else None

    @property
    def place(self) -> str:
        """The folder as a person writes it: a path of this machine, or a URL."""
        scheme = {"s3": "s3", "gcs": "gs"}.get(self.filesystem.type_name)
        return self.path if scheme is None else f"{scheme}://{self.path}"

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name is there."""
        return bool(self.filesystem.get_file_info(f"{self.path}/{name}").type != pafs.FileType.NotFound)

    def files(self, name: str = "") -> list[str]:
        """Names of all committed files below `name`, sorted."""
        base = f"{self.path}/{name}".rstrip("/")
        infos = self.filesystem.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
        found = [info.path for info in infos if info.type == pafs.FileType.File]
        return sorted(path[len(self.path) + 1 :] for path in found if not path.rsplit("/", 1)[-1].startswith(".tmp-"))

    def size(self, names: Iterable[str]) -> int:
        """Bytes of these files together; one that is not there has none."""
        infos = self.filesystem.get_file_info([f"{self.path}/{name}" for name in names])
        return sum(info.size or 0 for info in infos)

    def read(self, name: str) -> bytes:
        """The bytes of a file; FileNotFoundError without it."""
        with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            return bytes(file.read())

    def write(self, name: str, content: Content) -> None:
        """Commit a file whole: after this call it is durable; before it, no reader sees any of it."""
        with self.writing(name) as file:
            file.write(content)

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """A file to write to, which is there, whole, once this ends well."""
        if self.local is not None:
            with committed_here(self.local / name) as file:
                yield file
            return
        try:
            with self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
                yield stream
        except BaseException:
            self.delete(name)  # closing completes an upload, and pyarrow has no way to abort one
            raise

    def copy(self, source: Folder, name: str) -> None:
        """Commit a file of another folder under the same name here, without ever holding all of it."""
        if self.local is not None and source.local is None:
            self._copy_ranges(source, name)
            return
        with source.filesystem.open_input_stream(f"{source.path}/{name}") as stream, self.writing(name) as file:
            while chunk := stream.read(CHUNK_BYTES):
                file.write(chunk)

    def _copy_ranges(self, source: Folder, name: str) -> None:
        """From an object store to here in ranges, several at a time: one stream of a bucket is slow."""
        with source.filesystem.open_input_file(f"{source.path}/{name}") as object_, self.writing(name) as file:
            target = file.fileno()

            def read(offset: int) -> None:
                os.pwrite(target, object_.read_at(CHUNK_BYTES, offset), offset)

            in_parallel(RANGES, read, range(0, object_.size(), CHUNK_BYTES))

    def copy_all(self, source: Folder, names: Iterable[str]) -> None:
        """Copy files of another folder, several at a time; each is whole, or not there."""
        in_parallel(FILES, lambda name: self.copy(source, name), names)

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file as a table; with `columns`, those of them that it has. ConfigError for one that is cut short."""
        try:
            with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
                found = pq.ParquetDataset(file)
                return found.read(None if columns is None else [name for name in columns if name in found.schema.names])
        except pa.ArrowInvalid as error:
            mend = "put it back from a copy, or delete its step's folder: then the step is done again"
            raise ConfigError.one(f"{self.place}/{name}", f"is no whole Parquet file ({error}); {mend}") from error

    def read_schema(self, name: str) -> pa.Schema:
        """The schema of a Parquet file, without its rows."""
        with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            return pq.read_schema(file)

    def read_batches(self, name: str, columns: Sequence[str], rows: int) -> pa.RecordBatchReader:
        """A Parquet file by so many rows at a time; of its columns these, where it has them all."""
        parquet = pq.ParquetFile(self.filesystem.open_input_file(f"{self.path}/{name}"), buffer_size=1 << 20)
        schema = parquet.schema_arrow
        if set(columns) <= set(schema.names):
            schema = pa.schema([schema.field(column) for column in columns], schema.metadata)
        # One thread: each would hold pages of its own.
        batches = parquet.iter_batches(rows, columns=schema.names, use_threads=False)
        return pa.RecordBatchReader.from_batches(schema, (batch.select(schema.names) for batch in batches))

    def write_table(self, name: str, table: pa.Table) -> int:
        """Commit a table as one Parquet file, written as it is encoded; returns its size in bytes."""
        with self.writing(name) as file:
            pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)
            return int(file.tell())

    def upload(self, source: Path, name: str) -> None:
        """Copy a local folder whole into `name`, each file committed; a manifest makes them count."""

        def copy(file: Path) -> None:
            with _mapped(file) as content:
                self.write(f"{name}/{file.relative_to(source).as_posix()}", content)

        in_parallel(FILES, copy, (file for file in sorted(source.rglob("*")) if file.is_file()))

    def download(self, name: str, target: Path) -> Path:
        """A folder of the store on this machine: itself where it is local, else a copy in `target`.

        Each file is copied whole, once: several processes of this machine may ask for the same at the same time.
        """
        if self.local is not None:
            return self.local / name
        source = self.child(name)
        fetch(source, source.files(), target)
        return target

    def delete(self, name: str) -> None:
        """Remove a file or folder; nothing happens without it."""
        path = f"{self.path}/{name}"
        kind = self.filesystem.get_file_info(path).type
        if kind == pafs.FileType.Directory:
            # On Google's store this ends with the folder's own marker, which a folder of committed files has not.
            with suppress(FileNotFoundError):
                self.filesystem.delete_dir(path)
        elif kind == pafs.FileType.File:
            self.filesystem.delete_file(path)


def fetch(source: Folder, names: Iterable[str], target: Path) -> None:
    """Files of an object store in a folder of this machine, those that are not there yet: one process fetches, others wait."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel opens it again when its holder dies
        here = Folder(pafs.LocalFileSystem(), str(target))
        here.copy_all(source, [name for name in names if not here.exists(name)])


def in_parallel(workers: int, work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Do the work for all items, so many at a time; the first that fails ends it."""
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            for done in as_completed(running):
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def filesystem_of(url: str) -> tuple[pafs.FileSystem, str]:
    """What serves a URL, and the path there. Raises ArrowInvalid or ValueError for one that pyarrow.fs cannot serve."""
    if url.startswith("file:///"):  # Arrow's own parser refuses a space, and ends a path at #
        path = str(local_path(url, {}))
        path.encode()  # a ValueError here, not at each use: Arrow knows no names but those in UTF-8
        return pafs.LocalFileSystem(), path
    limit = f"?retry_limit_seconds={GOOGLE_RETRY_SECONDS}" if url.startswith("gs://") else ""
    filesystem, path = pafs.FileSystem.from_uri(_escaped(url) + limit)
    return filesystem, path


def _escaped(url: str) -> str:
    """A bucket's URL as Arrow's parser wants it: spaces and # of a key escaped; what is escaped already stays."""
    return re.sub(r"%(?![0-9A-Fa-f]{2})|[^!$%&'()*+,\-./0-9:;=?@A-Z_a-z~]", lambda found: quote(found[0]), url)


@contextmanager
def _mapped(file: Path) -> Iterator[Content]:
    """A file's content without holding it: weights and optimiser states are larger than what memory has left."""
    if file.stat().st_size == 0:  # which cannot be mapped
        yield b""
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


class TableEntry(Frozen):
    """A table in a manifest: the Parquet files that make it, in order."""

    parts: tuple[str, ...]
    rows: int


class Manifest(Frozen):
    """What a finished step made, and all that its lineage needs."""

    step: str
    kind: str
    digest: str
    recipe: str
    version: str
    attempt: int
    started: str  # ISO 8601, UTC
    finished: str
    active_seconds: float  # over all attempts that contributed
    tables: dict[str, TableEntry] = {}
    model: str | None = None  # folder of the trained model, relative to the step's folder
    versions: dict[str, str] = {}  # of the engine and the trainer
    seed: int
    models: dict[str, str] = {}  # lineage/iteration -> digest of what was loaded
    tokens: dict[str, int] = {}  # by role
    result: dict[str, Json] = Field(default={}, description="the step's figures: what status and report show")
    reused: bool = False  # taken from another run, with the attempt and times that it had there

    def summary(self) -> dict[str, Json]:
        """The part that goes to the termination message (at most 4 kB)."""
        said = {"step": self.step, "digest": self.digest, "attempt": self.attempt, "result": self.result}
        return said | {"reused": True} if self.reused else said


def read_json(folder: Folder, name: str, kind: type[M], mend: str) -> M:
    """A file of ours. ConfigError for one that is empty, cut short or something else, with `mend`: what to do about it."""
    content = folder.read(name)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        why = (
            "is empty" if not content.strip() else f"is not what we write ({where}: {first['msg']})".replace("(: ", "(")
        )
        raise ConfigError.one(f"{folder.place}/{name}", f"{why}; {mend}") from error


def read_plan(run: Folder) -> Plan:
    """The plan of a run that was accepted; FileNotFoundError before."""
    if not run.exists(PLAN_FILE):
        raise FileNotFoundError(f"{run.place} has no {PLAN_FILE}, which accepting the run writes")
    return read_json(run, PLAN_FILE, Plan, "`selfalign run` with the run's file writes it again, as accepting does")


def write_plan(run: Folder, plan: Plan) -> None:
    """Commit a run's plan: what all its step programs read."""
    run.write(PLAN_FILE, plan.model_dump_json(indent=1).encode())


def step_folder(run: Folder, iteration: int, step: str) -> Folder:
    """Where a step keeps its artefacts."""
    return run.child(f"iter-{iteration}/{step}")


def read_manifest(folder: Folder) -> Manifest | None:
    """The manifest of a finished step; None before it is done."""
    if not folder.exists(MANIFEST):
        return None
    return read_json(
        folder, MANIFEST, Manifest, "put it back from a copy, or delete it: then the step goes on from what is durable"
    )


def write_manifest(folder: Folder, manifest: Manifest) -> None:
    """Commit the manifest: from here on the step is done."""
    folder.write(MANIFEST, manifest.model_dump_json(indent=1).encode())


def read_parts(folder: Folder, entry: TableEntry, columns: Sequence[str] | None = None) -> pa.Table:
    """A table of a step, whole: the parts that its manifest lists, in order; of their columns those of `columns`."""
    with ThreadPoolExecutor(FILES) as pool:
        parts = list(pool.map(lambda part: folder.read_table(part, columns), entry.parts))
    pa.default_memory_pool().release_unused()  # what decoding took in each thread, up to a third of the table again
    return pa.concat_tables(parts, promote_options="default") if parts else pa.table({})


def parts_of(folder: Folder, table: str) -> Iterator[str]:
    """Committed parts of a table of an unfinished step, oldest attempt first."""
    yield from (name for name in folder.files(f"parts/{table}") if name.endswith(".parquet"))
