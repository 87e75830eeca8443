"""A case: what is written, the command that is given it, and what is right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.run_file import GenerationMeans, Means, TrainingMeans

REPOSITORY = Path(__file__).parents[2]
TINY = REPOSITORY / "examples" / "tiny-model"
MODEL, PERSONAS = "pvc://selfalign/tiny-model/model", "pvc://selfalign/tiny-model/personas.jsonl"
ON_CPU = Means(
    generation=GenerationMeans(device="CPU"),
    training=TrainingMeans(device="CPU"),
    evaluation=GenerationMeans(device="CPU"),
)
PEOPLE = [f"a tester number {i} who counts" for i in range(60)]

Change = Callable[[dict[str, Any]], object]  # of a JSON file of a model's folder, in place


@dataclass(frozen=True)
class Case:
    """One input as people bring it.

    `write` writes it and returns the run file. `command` is a line for the shell: {run} is that file, {out} a folder for
    what a run makes, {room} the case's own folder; without one `selfalign validate` is asked. Right are the exit code, words
    that are said (white space folded), words that are not, and the columns of the run's sources as they are read.
    `engine` marks a case that generates or trains: `make cases` tries it, `make test` does not.
    """

    name: str
    write: Callable[[Room], Path]
    code: int = 0
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    reads: Mapping[str, Mapping[str, Sequence[str | None]]] = field(default_factory=dict)  # source → column → values
    holds: Callable[[Room], Iterable[str]] = lambda _: ()  # what is wrong in what the command left behind
    command: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    engine: bool = False


@dataclass(frozen=True)
class Room:
    """The folder that a case is written into."""

    folder: Path

    @property
    def out(self) -> Path:
        """Where a run of the case keeps its artefacts."""
        return self.folder / "out"

    def url(self, name: str) -> str:
        """The URL of a file of the room."""
        return (self.folder / name).as_uri()

    def data(self, name: str, content: str | bytes) -> str:
        """Write a file as it is given, byte by byte; its URL."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file.as_uri()

    def lines(self, name: str, rows: Iterable[Any]) -> str:
        """Write JSONL; its URL."""
        return self.data(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def model(self, changes: Mapping[str, Change | str | bytes | None], name: str = "model", of: str = "model") -> str:
        """A copy of the tiny model, or ranker, with files changed (JSON, in place), replaced, or taken away (None); its URL."""
        folder = self.folder / name
        shutil.copytree(TINY / of, folder)
        for file, change in changes.items():
            if change is None:
                (folder / file).unlink()
            elif callable(change):
                values = json.loads((folder / file).read_text())
                change(values)
                (folder / file).write_text(json.dumps(values, indent=1))
            else:
                self.data(f"{name}/{file}", change)
        return folder.as_uri()

    def run(self, changes: Mapping[str, Any] | None = None, name: str = "run.yaml") -> Path:
        """Write base.yaml with values of its spec replaced: {"generation.roles[respond].maxTokens": 8}; None takes one away."""
        document = base()
        for path, value in (changes or {}).items():
            _put(document["spec"], path, value)
        return self.text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), name)

    def text(self, text: str, name: str = "run.yaml") -> Path:
        """Write a run file as it is given."""
        self.data(name, text)
        return self.folder / name


def base() -> dict[str, Any]:
    """The run file that cases change: it is right, and small enough to be run."""
    document: dict[str, Any] = read_yaml(Path(__file__).with_name("base.yaml").read_text(), "base.yaml")
    return document


def with_personas(name: str, content: str | bytes, **changes: Any) -> Callable[[Room], Path]:
    """A run whose personas are this file."""
    return lambda room: room.run({"data.personas.url": room.data(name, content)} | changes)


def with_model(changes: Mapping[str, Change | str | bytes | None], **spec: Any) -> Callable[[Room], Path]:
    """A run of the tiny model with these files of it changed."""
    return lambda room: room.run({"model.url": room.model(changes)} | spec)


def with_spec(changes: Mapping[str, Any]) -> Callable[[Room], Path]:
    """A run with these values of its spec changed."""
    return lambda room: room.run(changes)


def _put(spec: dict[str, Any], path: str, value: Any) -> None:
    """Set a value by its path; a `[name]` picks the entry of a list by its name."""
    *parents, last = path.replace("[", ".[").split(".")
    place: Any = spec
    for key in parents:
        place = _entry(place, key) if key.startswith("[") else place.setdefault(key, {})
    if value is None:
        place.pop(last, None)
    else:
        place[last] = value


def _entry(places: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return next(entry for entry in places if entry["name"] == key.strip("[]"))
