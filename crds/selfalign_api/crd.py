"""The CustomResourceDefinition, generated from the types and the rules: crds/selfalignmentruns.yaml.

`selfalign crd` prints it; a test fails when the committed file is another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from selfalign_api.base import INT32_MAX, INT64_MAX
from selfalign_api.rule_table import RULES
from selfalign_api.run import GROUP, VERSION, SelfAlignmentRun, Spec
from selfalign_api.status import Status
from selfalign_api.transition_rules import TRANSITION_RULES

__all__ = ["crd", "crd_yaml", "structural"]

Schema = dict[str, Any]

HEADER = "# Generated from crds/selfalign_api by `selfalign crd`; change the types there, not this file.\n"
# What Kubernetes reads of pydantic's JSON schema as it stands.
KEPT = (
    *(
        "type",
        "description",
        "format",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "maxProperties",
    ),
    "required",
)
COLUMNS = (
    ("Recipe", ".spec.recipe", 0),
    ("Stage", ".status.stage", 0),
    ("Iteration", ".status.iteration", 0),
    ("Progress", ".status.progress", 0),
    ("State", ".status.state", 0),
    ("Reason", '.status.conditions[?(@.type=="Progressing")].reason', 0),
    ("Model", ".spec.model.url", 1),
    ("Queue", ".spec.compute.queueName", 1),
    ("Win", '.status.results[?(@.name=="win")].value', 1),
    ("Message", '.status.conditions[?(@.type=="Progressing")].message', 1),
)
SELECTABLE = (".spec.recipe", ".status.state")  # kubectl get sar --field-selector


def crd_yaml() -> str:
    """The CRD as YAML, byte for byte what is committed."""
    plain = json.loads(json.dumps(crd()))  # no object twice, so YAML needs no anchors
    return HEADER + yaml.safe_dump(plain, sort_keys=False, width=120, allow_unicode=True)


def crd() -> dict[str, Any]:
    """The CRD as JSON: apiextensions.k8s.io/v1, one version, structural, status as a subresource."""
    columns = [{"name": name, "type": "string", "jsonPath": path, "priority": wide} for name, path, wide in COLUMNS]
    columns.insert(6, {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "priority": 0})
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"selfalignmentruns.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "SelfAlignmentRun",
                "listKind": "SelfAlignmentRunList",
                "plural": "selfalignmentruns",
                "singular": "selfalignmentrun",
                "shortNames": ["sar"],
                "categories": ["selfalign"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _openapi()},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "selectableFields": [{"jsonPath": path} for path in SELECTABLE],
                }
            ],
        },
    }


def structural(model: type[BaseModel]) -> Schema:
    """The schema of a type of the API as a CRD may hold it, with descriptions and rules."""
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema["$defs"], model.__name__)


def _openapi() -> Schema:
    root = structural(SelfAlignmentRun)
    root["properties"].update(
        apiVersion={"type": "string"},
        kind={"type": "string"},
        metadata={"type": "object"},  # the API server knows its fields, and allows no more here
        status=_status(),
    )
    root["required"] = ["spec"]
    return root


def _status() -> Schema:
    return _lenient(structural(Status))


def _lenient(schema: Schema, keys: Sequence[str] = ()) -> Schema:
    """A schema that takes a part of a status, and values of another version: only the keys of its maps are required."""
    out = {key: value for key, value in schema.items() if key not in ("required", "default", "enum")}
    if keys:
        out["required"] = list(keys)
    if "properties" in schema:
        out["properties"] = {field: _lenient(item) for field, item in schema["properties"].items()}
    if "items" in schema:
        out["items"] = _lenient(schema["items"], schema.get("x-kubernetes-list-map-keys", ()))
    return out


def _structural(schema: Schema, definitions: dict[str, Schema], name: str = "") -> Schema:
    """Pydantic's JSON schema in the form that Kubernetes takes: no $ref, no null, bounds as in OpenAPI 3.0, rules."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        outer = {key: value for key, value in schema.items() if key != "$ref"}
        return _structural({**definitions[name], **outer}, definitions, name)
    if "anyOf" in schema:  # a field that may be left out
        (inner,) = (option for option in schema["anyOf"] if option != {"type": "null"})
        outer = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return _structural({**inner, **outer}, definitions, name)
    out: Schema = {key: schema[key] for key in KEPT if key in schema}
    if "const" in schema:
        out["enum"] = [schema["const"]]  # Kubernetes has no const
    out |= {key: value for key, value in schema.items() if key.startswith("x-kubernetes-")}
    if "default" in schema:
        out["default"] = schema["default"]
    if schema.get("type") in ("integer", "number"):
        out |= _bounds(schema)
    if "items" in schema:
        out["items"] = _structural(schema["items"], definitions)
    if isinstance(schema.get("additionalProperties"), dict) and "x-kubernetes-preserve-unknown-fields" not in out:
        out["additionalProperties"] = _structural(schema["additionalProperties"], definitions)
    if "properties" in schema:
        out["properties"] = {field: _structural(item, definitions) for field, item in schema["properties"].items()}
    if rules := _validations(name):
        out["x-kubernetes-validations"] = rules
    return out


def _bounds(schema: Schema) -> Schema:
    """Minimum and maximum; 2^63 - 1 is no float64, and the format says it."""
    out: Schema = {}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in schema:
            out |= {bound: schema[exclusive], exclusive: True}
        elif bound in schema and schema[bound] != INT64_MAX:
            out[bound] = schema[bound]
    if schema["type"] == "integer":
        out["format"] = "int64" if schema.get("maximum", 0) > INT32_MAX else "int32"
    return out


def _validations(name: str) -> list[Schema]:
    """The rules of the type of that name; a path into an object's metadata is no field path for Kubernetes."""
    return [
        {"rule": rule.cel, "message": rule.message}
        | ({"fieldPath": f".{rule.field}"} if rule.field and not rule.field.startswith("metadata.") else {})
        for rule in RULES
        if rule.on.__name__ == name
    ] + [
        {"rule": change.cel, "message": change.message, "fieldPath": f".{change.field}"}
        for change in (TRANSITION_RULES if name == Spec.__name__ else ())
    ]
