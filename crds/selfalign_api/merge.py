"""Partial specs over one another: the recipe's or the profile's values below, the user's above."""

from __future__ import annotations

from typing import Any

from selfalign_api.pod_template import merge_pod_template

__all__ = ["merge"]

# Lists of the method in which an entry overrides the entry of the same key, field by field; any other list is replaced.
MERGED_LISTS = {"roles": "name", "stages": "name", "iterationOverrides": "fromIteration"}
POD_TEMPLATES = ("podTemplate", "headPodTemplate")  # a platform's tolerations stay when a run adds its own


def merge(defaults: Any, override: Any) -> Any:
    """`override` over `defaults`, both JSON. Maps merge, lists replace, a role given overrides the role of its name,
    and podTemplates merge as pods do (pod_template).

    Entries of such a list keep the order of `defaults`; new ones follow. Neither argument is changed.
    """
    if not (isinstance(defaults, dict) and isinstance(override, dict)):
        return override
    merged = dict(defaults)
    for field, value in override.items():
        key = MERGED_LISTS.get(field)
        if field not in defaults:
            merged[field] = value
        elif key is not None:
            merged[field] = _merge_entries(defaults[field], value, key)
        elif field in POD_TEMPLATES and isinstance(defaults[field], dict) and isinstance(value, dict):
            merged[field] = merge_pod_template(defaults[field], value, keep_nulls=True)
        else:
            merged[field] = merge(defaults[field], value)
    return merged


def _merge_entries(defaults: list[dict[str, Any]], override: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    entries = {entry[key]: entry for entry in defaults}
    for entry in override:
        entries[entry[key]] = merge(entries.get(entry[key], {}), entry)
    return list(entries.values())
