"""The CRD is generated, committed, structural, and documented to the last field."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from selfalign_api.crd import _structural, crd, crd_yaml
from selfalign_api.messages import model_of
from selfalign_api.rule_table import RULES
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.transition_rules import TRANSITION_RULES

COMMITTED = Path(__file__).parents[2] / "crds" / "selfalignmentruns.yaml"
ROOT = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
# What a structural schema may say (apiextensions/v1, JSONSchemaProps), as far as we say it.
KEYWORDS = {
    *("type", "description", "enum", "pattern", "format", "default", "required", "properties", "items"),
    *("additionalProperties", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"),
    *("minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations"),
}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if part in schema:
            yield from nodes(schema[part], f"{path}[]")


SPEC_NODES = dict(nodes(ROOT["properties"]["spec"], "spec"))
STATUS_NODES = dict(nodes(ROOT["properties"]["status"], "status"))


def test_the_committed_crd_is_the_generated_one() -> None:
    assert COMMITTED.read_text() == crd_yaml(), "stale: make crd, or selfalign crd > crds/selfalignmentruns.yaml"


def test_it_uses_only_what_a_structural_schema_may() -> None:
    for path, schema in nodes(ROOT):
        assert schema.keys() <= KEYWORDS, path
        assert "type" in schema or "x-kubernetes-int-or-string" in schema, path


def test_it_leaves_room_for_kubectl_apply() -> None:
    said = json.dumps(crd(), separators=(",", ":"), ensure_ascii=False)
    assert len(said.encode()) < 200_000  # an annotation of the object holds this, and has 256 KiB


def test_every_field_says_what_it_is() -> None:
    every = {**SPEC_NODES, **STATUS_NODES}
    bare = [path for path, schema in every.items() if not path.endswith("[]") and "description" not in schema]
    assert bare == []


def test_method_and_means_have_no_defaults() -> None:
    with_default = {path for path, schema in SPEC_NODES.items() if "default" in schema}
    of_life = {"suspend", "failurePolicy", "workloadRetention", "tracking"}
    assert {path.split(".")[1] for path in with_default} == of_life


def test_lists_with_a_key_are_maps_with_a_bound() -> None:
    keys = {
        path: (schema["x-kubernetes-list-map-keys"], schema["maxItems"])
        for path, schema in SPEC_NODES.items()
        if "x-kubernetes-list-type" in schema
    }
    assert keys == {
        "spec.auxiliaryModels": (["name"], 8),
        "spec.generation.roles": (["name"], 16),
        "spec.training.stages": (["name"], 8),
        "spec.training.iterationOverrides": (["fromIteration"], 31),
        "spec.evaluation.checks": (["name"], 16),
        "spec.credentials": (["urlPrefix"], 16),
        "spec.compute.generation.models": (["modelName"], 8),
    }


def test_every_rule_stands_in_the_crd_wherever_its_type_does() -> None:
    there = [rule["rule"] for _, schema in nodes(ROOT) for rule in schema.get("x-kubernetes-validations", ())]
    assert set(there) == {rule.cel for rule in (*RULES, *TRANSITION_RULES)}


def test_a_part_of_a_status_is_enough_and_another_versions_values_are_taken() -> None:
    for path, schema in STATUS_NODES.items():
        keys = STATUS_NODES.get(path.removesuffix("[]"), {}).get("x-kubernetes-list-map-keys", [])
        assert schema.get("required", []) == (keys if path.endswith("[]") else []), path
        assert not schema.keys() & {"default", "enum"}, path


def test_a_literal_is_an_enum_of_its_values_be_they_many_or_one() -> None:
    class Literals(BaseModel):
        one: Literal["a"]
        two: Literal["a", "b"]
        number: Literal[1]
        maybe: Literal["a"] | None = None

    schema = Literals.model_json_schema()
    found = _structural(schema, schema.get("$defs", {}))
    enums = {name: field["enum"] for name, field in found["properties"].items()}
    assert enums == {"one": ["a"], "two": ["a", "b"], "number": [1], "maybe": ["a"]}


def test_a_rule_names_a_field_that_is_there() -> None:
    for rule in RULES:
        model: Any = rule.on
        for step in rule.field.split(".") if rule.field else ():
            fields = {field.alias: field for field in model.model_fields.values()}
            assert step in fields, rule.field
            model = model_of(fields[step])


def test_every_required_field_has_an_example_for_the_message_that_it_is_missing() -> None:
    for model in _models(SelfAlignmentRun):
        for name, field in model.model_fields.items():
            assert not field.is_required() or field.examples, f"{model.__name__}.{name}"


def _models(model: Any) -> Iterator[Any]:
    yield model
    for field in model.model_fields.values():
        if (inner := model_of(field)) is not None:
            yield from _models(inner)


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("spec.compute.training.zeroStage", {"type": "integer", "enum": [0, 1, 2, 3], "format": "int32"}),
        ("spec.seed", {"type": "integer", "minimum": 0, "format": "int64"}),
        ("spec.training.learningRate", {"type": "number", "minimum": 0.0, "exclusiveMinimum": True}),
        ("status.steps[].progress.done", {"type": "integer", "minimum": 0, "maximum": 2**53, "format": "int64"}),
        ("spec.evaluation.checks[].selfWinRate.against", {"type": "string", "enum": ["initial", "previous"]}),
        ("status.startTime", {"type": "string", "format": "date-time"}),
        ("spec.compute.podTemplate", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
        (
            "spec.compute.generation.resources.requests[]",
            {"x-kubernetes-int-or-string": True, "pattern": r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][0-9]+)?$"},
        ),
    ],
)
def test_a_field_has_the_form_that_kubernetes_knows(path: str, schema: dict[str, Any]) -> None:
    assert {key: value for key, value in {**SPEC_NODES, **STATUS_NODES}[path].items() if key != "description"} == schema
