"""The digest of a run: its method and the content of its files, nothing else."""

import copy
from typing import Any

import pytest

from selfalign_api.digest import DIGEST_FIELDS, differing_fields, method_digest, method_of, source_urls
from selfalign_api.load import as_json, parse_spec
from selfalign_api.run import LIFE_FIELDS, MEANS_FIELDS, METHOD_FIELDS, Spec

SPEC: dict[str, Any] = {
    "recipe": "sao",
    "seed": 0,
    "model": {"url": "hf://org/model"},
    "data": {"personas": {"url": "./personas.jsonl", "count": 10}},
    "generation": {"roles": [{"name": "judge", "templateUrl": "./judge.jinja"}, {"name": "respond", "temperature": 1}]},
    "training": {"loss": {"type": "simpo", "beta": 10}, "learningRate": 1e-6},
    "storage": {"url": "./out"},
    "compute": {"device": "CPU"},
    "suspend": False,
}
SOURCES = {
    "model.url": "sha256:m",
    "data.personas.url": "sha256:p",
    "generation.roles[judge].templateUrl": "sha256:j",
}


def changed(path: str, value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(SPEC)
    *steps, last = path.split(".")
    inner = spec
    for step in steps:
        inner = inner.setdefault(step, {})
    inner[last] = value
    return spec


def test_the_three_parts_are_the_whole_spec() -> None:
    assert METHOD_FIELDS == (
        "recipe",
        "iterations",
        "seed",
        "model",
        "auxiliaryModels",
        "data",
        "generation",
        "judge",
        "iteration",
        "training",
        "evaluation",
        "sao",
        "selm",
        "synpo",
        "fspo",
        "almost",
        "reversegen",
        "pit",
        "output",
        "storage",
    )
    assert MEANS_FIELDS == ("compute",)
    assert LIFE_FIELDS == (
        "suspend",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "failurePolicy",
        "workloadRetention",
        "credentials",
        "holdBefore",
        "tracking",
    )
    fields = {field.alias for field in Spec.model_fields.values()}
    assert {*METHOD_FIELDS, *MEANS_FIELDS, *LIFE_FIELDS} == fields
    assert len(METHOD_FIELDS + MEANS_FIELDS + LIFE_FIELDS) == len(fields)


def test_the_digest_covers_the_method_but_where_it_is_kept() -> None:
    assert set(METHOD_FIELDS) - set(DIGEST_FIELDS) == {"storage", "output"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("recipe", "spin"),
        ("iterations", 2),
        ("seed", 1),
        ("model.remoteCode", "Allow"),
        ("data.personas.count", 11),
        ("generation.precision", "float32"),
        ("judge.method", "random"),
        ("iteration.start", "initial"),
        ("training.learningRate", 2e-6),
        ("evaluation.when", "Never"),
        ("sao.promptMode", "Free"),
    ],
)
def test_a_change_of_the_method_changes_the_digest_and_is_named(path: str, value: Any) -> None:
    other = changed(path, value)
    parse_spec(other)
    assert method_digest(other, SOURCES) != method_digest(SPEC, SOURCES)
    (named,) = differing_fields(method_of(SPEC, SOURCES), method_of(other, SOURCES))
    assert path == named or path.startswith(f"{named}.")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("compute.training.zeroStage", 3),
        ("suspend", True),
        ("failurePolicy.maxRetriesPerStep", 9),
        ("storage.url", "s3://b/runs"),
        ("output.url", "s3://b/model"),
        ("model.url", "./copy-of-the-model"),
        ("training.learningRate", 0.000001),
        ("training.loss.beta", 10.0),
    ],
)
def test_what_changes_no_result_leaves_the_digest(path: str, value: Any) -> None:
    assert method_digest(changed(path, value), SOURCES) == method_digest(SPEC, SOURCES)


@pytest.mark.parametrize("source", SOURCES)
def test_other_content_behind_a_url_changes_the_digest_and_is_named(source: str) -> None:
    other = {**SOURCES, source: "sha256:other"}
    assert method_digest(SPEC, other) != method_digest(SPEC, SOURCES)
    assert differing_fields(method_of(SPEC, SOURCES), method_of(SPEC, other)) == [source]


def test_the_order_of_fields_and_roles_says_nothing() -> None:
    other = copy.deepcopy(dict(reversed(SPEC.items())))
    other["generation"]["roles"].reverse()
    assert method_digest(other, SOURCES) == method_digest(SPEC, SOURCES)
    assert differing_fields(method_of(SPEC, SOURCES), method_of(other, SOURCES)) == []


def test_the_order_of_a_plain_list_counts() -> None:
    one, other = ({"recipe": "sao", "judge": {"verdicts": verdicts}} for verdicts in (["A", "B"], ["B", "A"]))
    assert method_digest(one, {}) != method_digest(other, {})


def test_every_url_needs_the_digest_of_its_content() -> None:
    assert source_urls(SPEC).keys() == SOURCES.keys()
    with pytest.raises(ValueError, match=r"model\.url"):
        method_digest(SPEC, {key: value for key, value in SOURCES.items() if key != "model.url"})
    with pytest.raises(ValueError, match=r"odd\.url"):
        method_digest(SPEC, {**SOURCES, "odd.url": "sha256:o"})


def test_the_digest_is_the_same_after_reading() -> None:
    assert method_digest(as_json(parse_spec(SPEC)), SOURCES) == method_digest(SPEC, SOURCES)


def test_differing_fields_are_told_by_path() -> None:
    a = {"roles": [{"name": "judge", "topP": 1}], "list": [1, 2], "gone": 0, "same": 1}
    b = {"roles": [{"name": "judge", "topP": 0.5}, {"name": "respond"}], "list": [1, 3], "same": 1.0, "new": {"x": 1}}
    assert differing_fields(a, b) == ["roles[judge].topP", "roles[respond]", "list[1]", "gone", "new"]


def test_true_is_not_one() -> None:
    assert differing_fields({"a": True}, {"a": 1}) == ["a"]
