"""A part of a PodTemplateSpec over a whole one, much as `kubectl patch` merges.

Maps merge. Containers, initContainers and volumes merge by name; an entry of env (by name) or volumeMounts (by
mountPath) replaces the whole entry, for `value` and `valueFrom` exclude each other, and so does a volume of another
kind. Other lists are appended to, without what is there already; a command or its args are one value. Scalars are
replaced; null removes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfalign_operator.views import Manifest

KEYED_LISTS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
}
WHOLE_ENTRIES = ("env", "volumeMounts")
WHOLE_LISTS = ("command", "args")


def merge_pod_template(template: Manifest, part: Manifest) -> Manifest:
    """`part` over `template`; neither is changed. `part` is one that `owned.problems_of` finds no fault with."""
    merged: Manifest = _merge_maps(template, part)
    return merged


def _merge_maps(below: Manifest, above: Manifest) -> Manifest:
    merged = dict(below)
    for field, value in above.items():
        if value is None:
            merged.pop(field, None)
        else:
            merged[field] = _merge(field, merged.get(field), value)
    return merged


def _merge(field: str, below: Any, above: Any) -> Any:
    if isinstance(above, dict):
        return _merge_maps(below if isinstance(below, dict) else {}, above)
    if isinstance(above, list) and field not in WHOLE_LISTS:
        there = below if isinstance(below, list) else []
        if field in KEYED_LISTS:
            return _merge_entries(there, above, KEYED_LISTS[field], _entry_merge(field))
        return there + [entry for entry in above if entry not in there]
    return above


def _entry_merge(field: str) -> Callable[[Manifest, Manifest], Manifest]:
    if field in WHOLE_ENTRIES:
        return lambda _, above: above
    return _merge_volumes if field == "volumes" else _merge_maps


def _merge_volumes(below: Manifest, above: Manifest) -> Manifest:
    """A volume has one kind: another one replaces it."""
    return _merge_maps(below, above) if below.keys() & above.keys() > {"name"} else above


def _merge_entries(
    below: list[Manifest], above: list[Manifest], key: str, merge: Callable[[Manifest, Manifest], Manifest]
) -> list[Manifest]:
    """Entries keep their order; new ones follow."""
    entries = {entry[key]: entry for entry in below}
    for entry in above:
        entries[entry[key]] = merge(entries.get(entry[key], {}), entry)
    return list(entries.values())
