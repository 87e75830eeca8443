"""What a run computes, as one digest: the method and the content of every file it names, wherever that lies.

A run's folder belongs to one digest (design, the store). Where artefacts are kept and copied (`storage`, `output`), where
the run runs (`compute`) and how it lives change no result and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfalign_api.plan import digest_of
from selfalign_api.run import METHOD_FIELDS

__all__ = ["DIGEST_FIELDS", "differing_fields", "leaves", "method_digest", "method_of", "source_urls"]

DIGEST_FIELDS = tuple(field for field in METHOD_FIELDS if field not in ("storage", "output"))
FREE = "model.chatTemplateKwargs."  # what stands in it belongs to the chat template, whatever it is called
_KEYS = ("name", "fromIteration")  # by which an entry of a list is named in a path


def method_digest(spec: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """`sha256:…` over the canonical JSON of `method_of(spec, sources)`: key order and 1 or 1.0 make no difference."""
    return digest_of(method_of(spec, sources))


def method_of(spec: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, Any]:
    """The method of a spec (JSON) with each URL replaced by the digest of the content it names.

    `sources` maps the paths of `source_urls(spec)` to content digests. Raises ValueError when they are not the same
    paths: a URL without a digest would let other content pass for the same run.
    """
    urls = source_urls(spec)
    if urls.keys() != sources.keys():
        odd = sorted(urls.keys() ^ sources.keys())
        raise ValueError(f"every URL of the method needs the digest of its content: {', '.join(odd)}")
    return {field: _replaced(spec[field], field, sources) for field in DIGEST_FIELDS if field in spec}


def source_urls(spec: Mapping[str, Any]) -> dict[str, str]:
    """Every URL of the method by its path, such as `model.url` or `generation.roles[judge].templateUrl`."""
    method = {field: spec[field] for field in DIGEST_FIELDS if field in spec}
    return {path: value for path, value in leaves(method) if _is_url(path)}


def differing_fields(a: Any, b: Any) -> list[str]:
    """Dotted paths at which two JSON values differ, in the order of `a`, then what only `b` has. 1 equals 1.0."""
    return list(_differing(a, b, ""))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a JSON document with its path."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for label, item in zip(_labels(value), value, strict=True):
            yield from leaves(item, f"{path}[{label}]")
    else:
        yield path, value


def _differing(a: Any, b: Any, path: str) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in dict.fromkeys((*a, *b)):
            inner = f"{path}.{name}" if path else str(name)
            if name in a and name in b:
                yield from _differing(a[name], b[name], inner)
            else:
                yield inner
    elif isinstance(a, list) and isinstance(b, list):
        by_label = dict(zip(_labels(a), a, strict=True)), dict(zip(_labels(b), b, strict=True))
        yield from _differing_entries(*by_label, path)
    elif a != b or isinstance(a, bool) != isinstance(b, bool):
        yield path


def _differing_entries(a: dict[str, Any], b: dict[str, Any], path: str) -> Iterator[str]:
    for label in dict.fromkeys((*a, *b)):
        if label in a and label in b:
            yield from _differing(a[label], b[label], f"{path}[{label}]")
        else:
            yield f"{path}[{label}]"


def _labels(entries: list[Any]) -> list[str]:
    """What names each entry of a list in a path: its key if it has one, else its index."""
    return [
        next((str(entry[key]) for key in _KEYS if isinstance(entry, dict) and key in entry), str(index))
        for index, entry in enumerate(entries)
    ]


def _is_map(entries: list[Any]) -> bool:
    return all(isinstance(entry, dict) and any(key in entry for key in _KEYS) for entry in entries)


def _is_url(path: str) -> bool:
    name = path.rpartition(".")[2]
    return (name == "url" or name.endswith("Url")) and not path.startswith(FREE)


def _replaced(value: Any, path: str, sources: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(item, f"{path}.{name}", sources) for name, item in value.items()}
    if isinstance(value, list):
        labels = _labels(value)
        replaced = [_replaced(item, f"{path}[{label}]", sources) for label, item in zip(labels, value, strict=True)]
        if _is_map(value):  # the order of a list that is a map says nothing
            return [entry for _, entry in sorted(zip(labels, replaced, strict=True), key=lambda pair: pair[0])]
        return replaced
    return sources.get(path, value)
