"""A part of a PodTemplateSpec over another, much as `kubectl patch` merges.

Maps merge. Containers, initContainers and volumes merge by name; an entry of env (by name) or volumeMounts (by
mountPath) replaces the whole entry, for `value` and `valueFrom` exclude each other, and so does a volume of another
kind. Other lists are appended to, without what is there already; a command or its args are one value. Scalars are
replaced. `$patch: delete` removes the field or the entry in which it stands, and so does null, which `kubectl apply` drops
where it makes an object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["DELETE", "KEYED_LISTS", "PATCH", "merge_pod_template", "removes"]

KEYED_LISTS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
}
PATCH, DELETE = "$patch", "delete"
WHOLE_ENTRIES = ("env", "volumeMounts")
WHOLE_LISTS = ("command", "args")

Part = dict[str, Any]
MergeEntry = Callable[[Part, Part], Part]


def merge_pod_template(below: Mapping[str, Any], above: Mapping[str, Any], *, keep_nulls: bool = False) -> Part:
    """`above` over `below`, any JSON; neither is changed. A list whose entries lack their key is a value like any other.

    With `keep_nulls` the result is a part again: what `above` removes it will remove from what the result is put over.
    """
    return _Merge(keep_nulls).maps(below, above)


def removes(value: Any) -> bool:
    """Whether a value in a part removes what is below it."""
    return value is None or (isinstance(value, dict) and value.get(PATCH) == DELETE)


class _Merge:
    def __init__(self, keep_nulls: bool) -> None:
        self._keep_nulls = keep_nulls

    def maps(self, below: Mapping[str, Any], above: Mapping[str, Any]) -> Part:
        merged = dict(below)
        for field, value in above.items():
            if not removes(value):
                merged[field] = self._value(field, None if removes(merged.get(field)) else merged.get(field), value)
            elif self._keep_nulls:
                merged[field] = value
            else:
                merged.pop(field, None)
        return merged

    def _value(self, field: str, below: Any, above: Any) -> Any:
        if isinstance(above, dict):
            return self.maps(below if isinstance(below, dict) else {}, above)
        if not isinstance(above, list) or field in WHOLE_LISTS:
            return above
        there = below if isinstance(below, list) else []
        key = KEYED_LISTS.get(field)
        if key is None:
            return there + [entry for entry in above if entry not in there]
        if not all(isinstance(entry, dict) and isinstance(entry.get(key), str) for entry in (*there, *above)):
            return above
        return self._entries(there, above, key, self._entry_merge(field))

    def _entries(self, below: list[Part], above: list[Part], key: str, merge: MergeEntry) -> list[Part]:
        """Entries keep their order; new ones follow."""
        entries = {entry[key]: entry for entry in below}
        for entry in above:
            there = entries.get(entry[key], {})
            entries[entry[key]] = entry if removes(entry) else merge({} if removes(there) else there, entry)
        return [entry for entry in entries.values() if self._keep_nulls or not removes(entry)]

    def _entry_merge(self, field: str) -> MergeEntry:
        if field in WHOLE_ENTRIES:
            return lambda _, above: above
        return self._volumes if field == "volumes" else self.maps

    def _volumes(self, below: Part, above: Part) -> Part:
        """A volume has one kind: another one replaces it."""
        return self.maps(below, above) if below.keys() & above.keys() > {"name"} else above
