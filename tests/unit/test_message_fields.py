"""Every field that a message names is one of the run file, in the run file's spelling."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from selfalign_api.base import ApiModel
from selfalign_api.messages import field_types
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.status import Status

ROOT = Path(__file__).parents[2]
SOURCES = sorted(file for folder in ("crds", "jobs", "operator") for file in (ROOT / folder).rglob("*.py"))
HOLE = "\N{WHITE SQUARE}"  # what an f-string fills in
PART = rf"(?:[A-Za-z][A-Za-z0-9]*|{HOLE})(?:\[[^\]\s]*\])?"
OF_A_POD = {"containers", "initContainers", "volumes", "template", "nodeName", "nodeSelector", "tolerations"}
# What stands in messages and belongs to others: Kubernetes, Kueue, libraries, CEL; and a role's name.
OTHERS = {
    "ncclRemoteError",
    "emptyDir", "sizeLimit", "serviceAccountName", "priorityClassName", "imagePullSecrets", "persistentVolumeClaim",
    "resourceVersion", "securityContext", "initContainers", "volumeMounts", "mountPath", "configMap", "backoffLimit",
    "runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "oldSelf", "vLLM", "arXiv", "kB", "writePrompt", "respondView",
    "podFailurePolicy", "successPolicy", "managedBy", "rayClusterSpec", "submissionMode", "localQueue", "fieldSelector",
}  # fmt: skip


def tree(model: type[BaseModel]) -> dict[str, object]:
    """Field names as YAML has them; True below a field that is open."""
    return {field.alias or name: below(field.annotation) for name, field in model.model_fields.items()}


def below(annotation: object) -> object:
    found = [part for part in field_types(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    return tree(found[0]) if found else "dict" in str(annotation)


TREE = tree(SelfAlignmentRun)
SPEC = TREE["spec"]
assert isinstance(SPEC, dict)


def names(fields: object) -> Iterator[str]:
    if isinstance(fields, dict):
        for name, inner in fields.items():
            yield name
            yield from names(inner)


NAMES = {*names(TREE), *names(tree(OperatorConfig)), *names(tree(Status))}


def is_field(path: str, fields: object = TREE) -> bool:
    """Whether a dotted path leads to a field; a hole stands for any, what is below an open one is its owner's."""
    first, _, rest = path.partition(".")
    first = first.split("[")[0]
    if not isinstance(fields, dict):
        return fields is True
    if first == HOLE:
        return any(not rest or is_field(rest, inner) for inner in fields.values())
    return first in fields and (not rest or is_field(rest, fields[first]))


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Every string of a file that is no docstring, with its line; f-strings with holes."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    inner: set[int] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))  # a docstring
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(node)} - {id(node)}
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def wrong_in(text: str) -> Iterator[str]:
    """The fields that a text names and that are none."""
    for path in re.findall(rf"(?<![\w./-])spec(?:\.{PART})+", text):
        if not is_field(path) and path.split(".")[1] not in OF_A_POD:
            yield path
    if " " not in text.strip():
        return  # no message
    for path in re.findall(rf"(?<![\w./-])(?:{'|'.join(SPEC)})(?:\.{PART})+(?![\w(/-])", text):
        if not is_field(f"spec.{path}"):
            yield path
    for word in re.findall(r"(?<![\w./$-])[a-z]+(?:[A-Z][a-z0-9]*)+(?![\w(/-])", text):
        if word not in NAMES | OTHERS:
            yield word
    for word in re.findall(r"(?<![\w./$`-])[a-z]+(?:_[a-z]+)+(?![\w(/-])", text):
        if to_camel(word) in set(names(SPEC)):
            yield word


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_message_names_fields_that_there_are(file: Path) -> None:
    assert [(line, word) for line, text in texts(file) for word in wrong_in(text)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("spec.compute.training.microBatchTokens", []),
        (f"spec.generation.roles[{HOLE}].template", []),
        (f"spec.compute.{HOLE}.replicas: lower it", []),
        ("write compute.podTemplate.spec.serviceAccountName", []),
        ("spec.compute.training.microBatchToken", ["spec.compute.training.microBatchToken"]),
        ("lower training.microBatchTokens there", ["training.microBatchTokens"]),
        ("write max_model_tokens in it", ["max_model_tokens"]),
        ("a lower gpuMemoryShare helps", ["gpuMemoryShare"]),
        (f"spec.{HOLE}.zeroStages is none", [f"spec.{HOLE}.zeroStages"]),
    ],
)
def test_a_field_that_is_none_is_found(text: str, wrong: list[str]) -> None:
    assert list(wrong_in(text)) == wrong


def test_messages_are_looked_at() -> None:
    said = [text for file in SOURCES for _, text in texts(file)]
    assert sum("spec." in text for text in said) > 80
    assert issubclass(SelfAlignmentRun, ApiModel)
