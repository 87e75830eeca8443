"""The tables that a run names, pinned: where each is now, and the digest of what is there."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from selfalign_api.errors import ConfigError, refused_as
from selfalign_api.places import Bucket, HubDataset, absolute, local_path, parse_place
from selfalign_api.plan_values import Json
from selfalign_api.sources import BenchmarkTasks, DataSource
from selfalign_jobs.places import hub
from selfalign_jobs.places.bucket import list_bucket
from selfalign_jobs.places.content import files_digest, folder_digest
from selfalign_jobs.places.sources import DIALOGUES, field_of, given_as, source_files, task_folder, url_key
from selfalign_jobs.recipes.evaluation import OF_FILE
from selfalign_jobs.recipes.method import Method
from selfalign_jobs.recipes.own_questions import BENCHMARK, KINDS, kind_of


def source_names(method: Method) -> tuple[str, ...]:
    """What a run reads, by the names that its plan has for them."""
    held_out = ("evaluation",) if method.evaluation.prompts_given else ()
    others = (OF_FILE + check.name for check in method.evaluation.checks if check.against == "answers")
    checks = method.evaluation.checks if method.evaluation.when != "Never" else ()
    own = (kind.source + check.name for kind in KINDS for check in checks if kind_of(check) is kind)
    return (*method.data, *held_out, *others, *own)


def source_of(name: str, values: Mapping[str, Json], mounts: Mapping[str, str], folder: Path) -> DataSource:
    """A source as the plan has it: where it is now, and the digest of what is there. Raises ConfigError for one that is not."""
    given = given_as(values, name)
    if name.startswith(BENCHMARK.source):
        return _benchmark(name, given, mounts, folder)
    url = given.get("url")
    if url is None:
        return DataSource(digest="built-in")
    place = parse_place(url, f"{field_of(name)}.url")
    if not (isinstance(place, HubDataset) and place.file is None):
        for part in ("split", "subset"):
            if part in given:
                message = "belongs to a whole dataset of the hub, and this is a file; remove it"
                raise ConfigError.one(f"{field_of(name)}.{part}", message, given[part])
    if "turn" in given and name not in DIALOGUES:
        message = f"is of {' and '.join(f'data.{kind}' for kind in DIALOGUES)}, whose answers are read; remove it"
        raise ConfigError.one(f"{field_of(name)}.turn", message, given["turn"])
    with refused_as("DataNotFound"):
        pinned, digest = _pinned(name, url, mounts, folder)
    return DataSource(
        url=pinned,
        columns=given.get("columns", {}),
        digest=digest,
        subset=given.get("subset"),
        split=given.get("split"),
        turn=given.get("turn"),
    )


def _benchmark(name: str, given: Mapping[str, Json], mounts: Mapping[str, str], folder: Path) -> DataSource:
    """The requests of benchmark tasks; what they ask depends on the harness's version too."""
    tasks = BenchmarkTasks(
        tasks=tuple(given["tasks"]),
        shots=given.get("shots"),
        limit=given.get("limit"),
        chat=given.get("prompts") == "Chat",
    )
    digest, url = f"lm_eval {version('lm_eval')}", given.get("tasksUrl")
    if url is None:
        return DataSource(digest=digest, benchmark=tasks)
    with refused_as("DataNotFound"):
        path = task_folder(name, url, mounts, folder)
    return DataSource(url=absolute(url, folder), digest=f"{digest} {folder_digest(path)}", benchmark=tasks)


def _pinned(name: str, url: str, mounts: Mapping[str, str], folder: Path) -> tuple[str, str]:
    """The URL of the data as it is now, and the digest of what is there."""
    field = f"{field_of(name)}.url"
    place = parse_place(url, field)
    if isinstance(place, HubDataset):
        pinned = hub.pin(place, field)
        file = f"/{place.file}" if place.file else ""
        return f"hf://datasets/{place.repo}@{pinned.commit}{file}", pinned.digest + file
    if isinstance(place, Bucket):
        return url, list_bucket(url, field).digest
    path = local_path(url, mounts, folder, field)
    files = source_files(name, path)
    digest = files_digest([file.path for file in files], path if path.is_dir() else path.parent)
    return absolute(url, folder), digest


def path_of(name: str) -> str:
    """The path in the spec of its URL."""
    return f"{field_of(name)}.{url_key(name)}".removeprefix("spec.")
