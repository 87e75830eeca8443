"""Tables of the user's, read with standard column names: a file, a folder of them, here, in a bucket or on the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from selfalign_api.errors import ConfigError
from selfalign_api.places import Bucket, HubDataset, local_path, parse_place
from selfalign_api.plan_values import Json
from selfalign_api.sources import DataSource
from selfalign_jobs.places import benchmark_tasks, hub
from selfalign_jobs.places.bucket import list_bucket
from selfalign_jobs.places.source_look import MESSAGES, Reading, looked_at
from selfalign_jobs.places.source_rows import SourceRows
from selfalign_jobs.places.tables import cells, dialogues, read_text
from selfalign_jobs.places.tables.files import TableFile, in_folder, table_file
from selfalign_jobs.places.tables.first_bytes import by_content, check_content
from selfalign_jobs.places.tables.piece import Column, Unreadable
from selfalign_jobs.recipes import own_questions, personas, users
from selfalign_jobs.recipes.evaluation import OF_FILE
from selfalign_jobs.recipes.own_questions import of_source

# What a table of each kind must have, and may have.
REQUIRED = {
    "personas": "persona",
    "users": "description",
    "prompts": "prompt",
    "evaluation": "prompt",
    "corpus": "text",
    "answers": "prompt",
    "questions": "turns",
}
BUILT_IN = {"personas": personas.table, "users": users.table}
OPTIONAL: Mapping[str, tuple[str, ...]] = {"evaluation": ("reference", "id")}
# These must be there, and may be empty.
BESIDE: Mapping[str, tuple[str, ...]] = {"answers": ("response",), "questions": ("question_id", "category")}
IDS = ("id", "question_id")  # which no row may leave empty
CELLS = {"prompt": cells.prompt, "turns": cells.turns}  # how the column that a row must have is read; else as text
DIALOGUES = ("demonstrations", "preferences")  # whose rows are conversations, or can be


def read_source(name: str, source: DataSource, mounts: Mapping[str, str]) -> pa.Table:
    """The table `name` of the run's data, whole, with its standard columns only. Raises ConfigError as `open_source`."""
    return open_source(name, source, mounts).read()


def open_source(name: str, source: DataSource, mounts: Mapping[str, str]) -> SourceRows:
    """The rows of the table `name` of the run's data, each looked at once, and held only while they are few.

    Raises ConfigError for a file that is missing, empty, of another kind, or lacks a column (with those that are there).
    """
    if source.benchmark is not None:
        asked, folder = source.benchmark, None if source.url is None else task_folder(name, source.url, mounts)
        return SourceRows(lambda: iter([benchmark_tasks.requests_table(asked, folder, field_of(name))]))
    if source.url is None:
        return SourceRows(lambda: iter([BUILT_IN[name]()]))
    files = _files(name, source, mounts)
    reading = _dialogues(name, source) if name in DIALOGUES else _reading(name, source, files[0].format == "text")
    return SourceRows(
        lambda: (piece.table for file in files for piece in reading.pieces(file)),
        looked_at(field_of(name), source.url, files, reading),
    )


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


def task_folder(name: str, url: str, mounts: Mapping[str, str], beside: Path = Path()) -> Path:
    """A folder of benchmark tasks on this machine, fetched here if need be. Raises ConfigError where there is none."""
    field = f"{field_of(name)}.{url_key(name)}"
    path = here(url, mounts, beside, field)
    if not path.is_dir():
        raise ConfigError.one(field, f"there is no folder {path}; write the URL of a folder of task files", url)
    return path


def url_key(name: str) -> str:
    """What the spec calls the URL of a source."""
    own = of_source(name)
    return "url" if own is None else own[0].url


def field_of(name: str) -> str:
    """The path in the spec of a source."""
    if (own := of_source(name)) is not None:
        return f"spec.evaluation.checks[{own[1]}].{own[0].field}"
    if name.startswith(OF_FILE):
        return f"spec.evaluation.checks[{name.removeprefix(OF_FILE)}].selfWinRate.answers"
    return "spec.evaluation.prompts" if name == "evaluation" else f"spec.data.{name}"


def none_answered(check: str, asked: int) -> ConfigError:
    """What is wrong with a file of answers to other prompts than those of the evaluation."""
    message = (
        f"has an answer to none of the {asked:,} held-out prompts; write the file of the answers to evaluation.prompts, each "
        "beside its prompt character by character"
    )
    return ConfigError.one(f"{field_of(OF_FILE + check)}.url", message)


def given_as(spec: Mapping[str, Json], name: str) -> dict[str, Json]:
    """What a spec (JSON) says of a source."""
    evaluation = spec["evaluation"]
    if name.startswith(OF_FILE):
        (check,) = (check for check in evaluation["checks"] if OF_FILE + check["name"] == name)
        found: dict[str, Json] = check["selfWinRate"]["answers"]
    elif (own := of_source(name)) is not None:
        (found,) = (check for check in evaluation["checks"] if check["name"] == own[1])
        for part in own[0].field.split("."):
            found = found[part]
    else:
        found = evaluation["prompts"] if name == "evaluation" else spec["data"][name]
    return found


def source_files(name: str, path: Path) -> list[TableFile]:
    """The files of a source, sorted: itself, or all of a folder that are read; none of them is another thing than its name says."""
    field = f"{field_of(name)}.url"
    with _refusing(field, path):
        if not path.exists():
            raise ConfigError.one(field, f"there is nothing at {path}; write the URL of a file or folder that exists")
        files = in_folder(path) if path.is_dir() else [table_file(path)]
    return [_looked_at(field, file) for file in files]


def _files(name: str, source: DataSource, mounts: Mapping[str, str]) -> list[TableFile]:
    assert source.url is not None
    field = f"{field_of(name)}.url"
    place = parse_place(source.url, field)
    if not isinstance(place, HubDataset):
        return source_files(name, here(source.url, mounts, field=field))
    files = []
    for path in hub.dataset_files(place, source.subset, source.split or "train", field):
        with _refusing(field, path):
            files.append(_looked_at(field, by_content(table_file(path))))
    return files


def _looked_at(field: str, file: TableFile) -> TableFile:
    with _refusing(field, file.path):
        check_content(file)
    return file


@contextmanager
def _refusing(field: str, path: Path) -> Iterator[None]:
    try:
        yield
    except Unreadable as error:
        raise ConfigError.one(field, error.of(str(path))) from error
    except PermissionError as error:
        said = f"{error.filename} may not be read by user {os.getuid()}; give it the permission"
        raise ConfigError.one(field, said) from error


def _reading(name: str, source: DataSource, is_text: bool) -> Reading:
    """What is read of each file; first the column that a row must have."""
    kind = (
        "answers"
        if name.startswith(OF_FILE)
        else "questions"
        if name.startswith(own_questions.DIALOGUES.source)
        else name
    )
    given, main, field = source.columns, REQUIRED[kind], f"{field_of(name)}.columns"
    beside, optional = BESIDE.get(kind, ()), OPTIONAL.get(kind, ())
    chats = [MESSAGES] if main == "prompt" and not beside else []
    _refuse_unread(name, given, [main, *chats, *beside, *optional])
    if MESSAGES in given:
        if main in given:
            raise ConfigError.one(f"{field}.{MESSAGES}", f"stands beside {main}; write the one that holds the prompts")
        first = Column(given[MESSAGES], main, cells.first_user_turn, chats=True)
    else:
        # A text has one column, whatever it is called.
        named = read_text.COLUMN if is_text and given.get(main) in (None, main) else given.get(main, main)
        first = Column(named, main, CELLS.get(main, cells.text))
    others = [Column(given.get(other, other), other, cells.text) for other in beside]
    others += [Column(given[other], other, cells.text) for other in optional if other in given]
    filled = (main, *(column.standard for column in others if column.standard in IDS))
    return Reading((first, *others), filled=filled)


def _dialogues(name: str, source: DataSource) -> Reading:
    """The same of rows that are a dialogue."""
    given, which, field = source.columns, source.turn or "First", f"{field_of(name)}.columns"
    if name == "preferences":
        _refuse_unread(name, given, ["prompt", "chosen", "rejected", *dialogues.OF_PEOPLE])
        columns = [_of_dialogue(given.get(each, each), each) for each in ("chosen", "rejected", "prompt")]
        people = [Column(given[each], each, cells.text) for each in dialogues.OF_PEOPLE if each in given]
        needed = ("chosen", "rejected", *(column.standard for column in people))
        return Reading((*columns, *people), needed, needed, dialogues.preferences(which))
    _refuse_unread(name, given, ["prompt", "response", MESSAGES])
    if MESSAGES not in given:
        columns = [_of_dialogue(given.get(each, each), each) for each in ("response", "prompt")]
    elif others := [each for each in given if each != MESSAGES]:
        raise ConfigError.one(
            f"{field}.{MESSAGES}", f"stands beside {others[0]}; write the one that holds the demonstrations"
        )
    else:
        columns = [_of_dialogue(given[MESSAGES], "response", chats=True)]
    needed = tuple(column.standard for column in columns)
    return Reading(tuple(columns), needed, ("response",), dialogues.demonstrations(which))


def _of_dialogue(name: str, standard: str, *, chats: bool = False) -> Column:
    return Column(name, standard, dialogues.cell, chats, either=not chats)


def _refuse_unread(name: str, given: Mapping[str, str], known: list[str]) -> None:
    if unread := [column for column in given if column not in known]:
        message = f"is not read here; {field_of(name)} reads {', '.join(known)}"
        raise ConfigError.one(f"{field_of(name)}.columns.{unread[0]}", message, given[unread[0]])
