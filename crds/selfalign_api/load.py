"""A run file, read as kubectl reads it, into a typed SelfAlignmentRun."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from selfalign_api.errors import ConfigError
from selfalign_api.kubectl_yaml import read_documents
from selfalign_api.messages import in_our_words
from selfalign_api.run import SelfAlignmentRun, Spec

__all__ = ["as_json", "load_run", "parse", "parse_spec", "read_file", "without_nulls"]

KIND = "SelfAlignmentRun"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
OF_THE_CLUSTER = (  # fields of metadata that it writes, or that mean something there only
    *(
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
    ),
    *("managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid"),
)
FREE_FORM = ("podTemplate", "headPodTemplate", "engineArgs")  # null has a meaning of its own in these
M = TypeVar("M", bound=BaseModel)


def load_run(source: Path | str) -> SelfAlignmentRun:
    """The run that a file (a Path) or a text describes. The rules over several fields are `rules.check_rules`.

    It may stand as `kubectl get -o yaml` prints it, in a List, or among documents of other kinds. Raises ConfigError with
    all that is wrong: no such file, not YAML, several runs, unknown fields, wrong values.
    """
    text = read_file(source) if isinstance(source, Path) else source
    documents = read_documents(text, str(source) if isinstance(source, Path) else "line")
    run = _the_run(documents, str(source) if isinstance(source, Path) else "text")
    return parse(SelfAlignmentRun, _as_written(run), "")


def _the_run(documents: list[Any], origin: str) -> Any:
    """The one run of a file."""
    entries = [entry for document in documents for entry in _entries(document)]
    runs = [entry for entry in entries if _kind(entry) == KIND]
    if len(runs) > 1:
        names = ", ".join(str((run.get("metadata") or {}).get("name")) for run in runs)
        raise ConfigError.one(origin, f"holds {len(runs)} runs ({names}); write each into a file of its own")
    if runs or len(entries) == 1:
        return (runs or entries)[0]
    if not entries:
        raise ConfigError.one(origin, "nothing stands here; write a SelfAlignmentRun, as in examples/")
    kinds = ", ".join(dict.fromkeys(_kind(entry) or "no kind" for entry in entries))
    raise ConfigError.one(origin, f"holds {kinds} and no {KIND}; write one, as in examples/")


def _entries(document: Any) -> Iterator[Any]:
    """A document, or what it lists."""
    items = document.get("items") if _kind(document).endswith("List") else None
    if isinstance(items, list):
        for item in items:
            yield from _entries(item)
    else:
        yield document


def _kind(entry: Any) -> str:
    return str(entry.get("kind") or "") if isinstance(entry, dict) else ""


def _as_written(run: Any) -> Any:
    """A run without what a cluster has added to it."""
    if _kind(run) != KIND:
        return run
    run = {field: value for field, value in run.items() if field != "status"}
    if isinstance(metadata := run.get("metadata"), dict):
        run["metadata"] = metadata = {field: value for field, value in metadata.items() if field not in OF_THE_CLUSTER}
        if isinstance(annotations := metadata.get("annotations"), dict):
            metadata["annotations"] = {name: text for name, text in annotations.items() if name != LAST_APPLIED}
    return run


def parse_spec(data: Any) -> Spec:
    """The typed spec of its JSON form, as after `merge`; ConfigError as `load_run`."""
    return parse(Spec, data, "spec")


def parse(model: type[M], data: Any, path: str) -> M:
    """JSON data as a `model`; `path` begins the paths of the errors. A null is a field left out, as in Kubernetes."""
    data = without_nulls(data)
    try:
        return model.model_validate_json(json.dumps(data), by_alias=True, by_name=False)
    except ValidationError as error:
        raise in_our_words(error, model, data, path) from None


def as_json(model: BaseModel) -> dict[str, Any]:
    """The JSON form of what was given: camelCase, fields left out stay out."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


def read_file(path: Path) -> str:
    """The text of a file, without a byte order mark; ConfigError that says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError.one(str(path), "there is no such file") from None
    except IsADirectoryError:
        raise ConfigError.one(str(path), "this is a folder; name the file in it") from None
    except PermissionError:
        raise ConfigError.one(str(path), "no permission to read this file") from None
    except UnicodeDecodeError as error:
        raise ConfigError.one(str(path), f"not UTF-8 at byte {error.start}; save the file as UTF-8") from None


def without_nulls(value: Any) -> Any:
    """JSON without the fields that are null, which are left out in Kubernetes; free-form maps stay as they are."""
    if isinstance(value, dict):
        return {
            key: item if key in FREE_FORM else without_nulls(item) for key, item in value.items() if item is not None
        }
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
