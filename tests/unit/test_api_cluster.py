"""A run on a cluster: its profile, what the platform allows, its means and its pods."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.cluster import ProfileNotFound, effective_spec, pods_of, profile_of, resolve_on_cluster
from selfalign_api.errors import ConfigError
from selfalign_api.load import as_json, parse, parse_spec
from selfalign_api.means import Compute, Resources
from selfalign_api.merge import merge
from selfalign_api.operator_config import ClusterProfile, OperatorConfig
from selfalign_api.platform import claims_of, urls_of
from selfalign_api.run import Spec

BASE: dict[str, Any] = {"recipe": "sao", "model": {"url": "pvc://models/m"}, "storage": {"url": "pvc://claim/runs"}}


def config(**profiles: Any) -> OperatorConfig:
    return parse(OperatorConfig, {"images": {"generate": "g", "train": "t"}, "profiles": profiles}, "")


def compute(**parts: Any) -> Compute:
    return parse(Compute, parts, "spec.compute")


def lines_of(part: dict[str, Any], **profile: Any) -> list[str]:
    try:
        effective_spec(merge(BASE, part), config(default=profile))
    except ConfigError as error:
        return str(error).splitlines()
    return []


# --- profiles ---------------------------------------------------------------------------------------------------------


def test_a_run_takes_the_profile_that_it_names_else_the_default() -> None:
    both = config(default={"maxGpus": 1}, big={"maxGpus": 8})
    assert profile_of(parse_spec({**BASE, "compute": {"profileName": "big"}}), both).max_gpus == 8
    assert profile_of(parse_spec({**BASE, "compute": {}}), both).max_gpus == 1
    assert profile_of(parse_spec(BASE), config()) == ClusterProfile()


def test_a_profile_that_is_not_there_is_told_with_those_that_are() -> None:
    spec = parse_spec({**BASE, "compute": {"profileName": "huge"}})
    with pytest.raises(ProfileNotFound) as caught:
        profile_of(spec, config(small={}, big={}))
    assert str(caught.value) == (
        "spec.compute.profileName: huge names no profile (there are big, small); write one that is there, or remove this"
    )
    with pytest.raises(ProfileNotFound, match="the operator has none"):
        profile_of(spec, config())


def test_the_effective_spec_has_the_profiles_values_below_the_runs() -> None:
    profile = {
        "compute": {"queueName": "team", "training": {"nodes": 2, "gpusPerNode": 8}},
        "storage": {"url": "s3://ml/runs"},
        "credentials": [{"urlPrefix": "s3://", "secretName": "s3"}],
        "maxGpus": 16,
        "gpuResourceName": "amd.com/gpu",
    }
    raw = {**BASE, "storage": None, "compute": {"training": {"nodes": 1}}}
    effective = effective_spec(raw, config(default=profile))
    assert as_json(effective) == {
        "recipe": "sao",
        "model": {"url": "pvc://models/m"},
        "compute": {"queueName": "team", "training": {"nodes": 1, "gpusPerNode": 8}},
        "storage": {"url": "s3://ml/runs"},
        "credentials": [{"urlPrefix": "s3://", "secretName": "s3"}],
    }


# --- what is refused --------------------------------------------------------------------------------------------------

ENGINES = {"compute": {"generation": {"replicas": 3, "tensorParallelSize": 2}}}
MOUNTED = {
    "spec": {"containers": [{"name": "step", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}], "volumes": []}
}


@pytest.mark.parametrize(
    ("part", "profile", "line"),
    [
        ({"model": {"url": "./m"}}, {}, "spec.model.url: ./m: write hf://ORG/NAME, s3://BUCKET/PATH"),
        ({"model": {"url": "pvc:///m"}}, {}, "spec.model.url: pvc:///m names no claim; write pvc://CLAIM/PATH"),
        ({"sao": {"promptMode": "Own"}}, {}, "spec.sao.promptMode: Own is not one of Persona, Free"),
        (
            {"compute": {"generation": {"engineArgs": {"seed": 1}}}},
            {},
            "spec.compute.generation.engineArgs.seed: 1: spec.seed owns this",
        ),
        (
            ENGINES,
            {"maxGpus": 5},
            "spec.compute.generation.replicas: 3 is more than this cluster allows: a step may take 5 GPUs, and engines of "
            "2 would take 6; lower replicas or tensorParallelSize",
        ),
        (
            {"compute": {"evaluation": {"replicas": 6}}},
            {"maxGpus": 5},
            "spec.compute.evaluation.replicas: 6 is more than this cluster allows: a step may take 5 GPUs, and engines of "
            "1 would take 6; lower replicas or tensorParallelSize",
        ),
        (
            {"compute": {"training": {"nodes": 2, "gpusPerNode": 4}}},
            {"maxGpus": 7},
            "spec.compute.training.nodes: 2 is more than this cluster allows: a step may take 7 GPUs, and nodes of 4 would "
            "take 8; lower nodes or gpusPerNode",
        ),
        (
            {"compute": {"training": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}},
            {},
            "spec.compute.training.resources.limits.nvidia.com/gpu: GPUs follow from compute.training.gpusPerNode; write "
            "it there and remove this",
        ),
        (
            {"compute": {"training": {"resources": {"limits": {"memory": "64 GB"}}}}},
            {},
            "spec.compute.training.resources.limits.memory: 64 GB is no quantity of Kubernetes; write 500m, 8 or 64Gi",
        ),
        (
            {"storage": {"reuseFrom": ["s3://other/run"]}},
            {"allowedUrlPrefixes": ["pvc://", "s3://ml"]},
            "spec.storage.reuseFrom[0]: s3://other/run is outside the places that this cluster allows (pvc://, s3://ml); "
            "write one under those",
        ),
        (
            {"storage": {"url": "file:///data"}},
            {},
            "spec.storage.url: file:///data is in no volume of compute.podTemplate, so it would end with its pod; write "
            "pvc://CLAIM/PATH, or mount a volume at /data in container step",
        ),
        (
            {"storage": {"url": None}},
            {},
            "spec.storage.url: is missing, and the profile has none; write storage: {url: pvc://CLAIM/PATH} or "
            "s3://BUCKET/PATH",
        ),
    ],
)
def test_what_a_cluster_does_not_take_is_told(part: dict[str, Any], profile: dict[str, Any], line: str) -> None:
    (told,) = lines_of(part, **profile)
    assert told.startswith(line)


@pytest.mark.parametrize(
    ("part", "profile"),
    [
        (ENGINES, {"maxGpus": 6}),
        ({**ENGINES, "compute": {**ENGINES["compute"], "device": "CPU"}}, {"maxGpus": 1}),
        ({"compute": {"training": {"nodes": 9, "gpusPerNode": 0}}}, {"maxGpus": 1}),
        (
            {"compute": {"training": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}},
            {"gpuResourceName": "amd.com/gpu"},
        ),
        ({"storage": {"url": "file:///data/runs"}, "compute": {"podTemplate": MOUNTED}}, {}),
    ],
)
def test_what_a_cluster_takes(part: dict[str, Any], profile: dict[str, Any]) -> None:
    assert lines_of(part, **profile) == []


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("s3://ml/model", True),
        ("s3://ml", True),
        ("s3://ml-secrets/model", False),
        ("s3://ml/../other/model", False),
        ("s3://ml/%2e%2e/other/model", False),
        ("hf://org/m@main", True),
        ("hf://org/model", False),
    ],
)
def test_an_allowed_prefix_is_of_whole_parts(url: str, allowed: bool) -> None:
    lines = lines_of({"model": {"url": url}}, allowedUrlPrefixes=["pvc://claim/", "s3://ml", "hf://org/m"])
    assert (lines == []) == allowed


def test_a_profiles_own_places_are_allowed() -> None:
    profile = {"allowedUrlPrefixes": ["pvc://models"], "storage": {"url": "s3://platform/runs"}}
    assert lines_of({"storage": {"url": None, "reuseFrom": ["s3://platform/runs/team/other"]}}, **profile) == []
    assert lines_of({"storage": {"url": "s3://platform/elsewhere"}}, **profile) != []


def test_a_tracking_server_must_be_allowed_as_any_url_unless_it_is_the_profiles() -> None:
    own, places = {"type": "MLflow", "url": "https://own.example"}, ["pvc://", "hf://"]
    (line,) = lines_of({"tracking": own}, allowedUrlPrefixes=places)
    assert line.startswith("spec.tracking.url: https://own.example is outside the places that this cluster allows")
    assert lines_of({"tracking": own}, allowedUrlPrefixes=[*places, "https://own.example"]) == []
    assert lines_of({}, allowedUrlPrefixes=places, tracking=own) == []


def test_every_place_of_a_run_is_known_with_its_claim() -> None:
    spec = parse_spec(
        {
            **BASE,
            "model": {"url": "pvc://models/m", "chatTemplateUrl": "hf://org/name"},
            "generation": {"roles": [{"name": "judge", "templateUrl": "pvc://prompts/judge"}]},
            "evaluation": {"prompts": {"url": "s3://ml/heldout"}},
            "storage": {"url": "pvc://claim/runs", "reuseFrom": ["pvc://claim/other", "gs://b/run"]},
        }
    )
    assert list(urls_of(spec)) == [
        "spec.model.url",
        "spec.model.chatTemplateUrl",
        "spec.generation.roles[judge].templateUrl",
        "spec.evaluation.prompts.url",
        "spec.storage.url",
        "spec.storage.reuseFrom[0]",
        "spec.storage.reuseFrom[1]",
    ]
    assert claims_of(spec) == ("claim", "models", "prompts")


TEXT = st.text(max_size=8) | st.sampled_from(["pvc://c/x", "hf://o/n", "file:///x", "s3://b", "sao", "CPU", "../x"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=9
)


def names_of(model: Any) -> list[str]:
    return [field.alias for field in model.model_fields.values()]


SPECS = st.dictionaries(
    st.sampled_from(names_of(Spec)) | TEXT,
    JSON | st.dictionaries(st.sampled_from(["url", "generation", "training", "podTemplate", "roles", "spec"]), JSON),
    max_size=5,
)


@given(st.one_of(JSON, SPECS, SPECS.map(lambda spec: {**BASE, **spec})))
def test_any_json_is_a_spec_or_told_to_be_none(raw: Any) -> None:
    try:
        effective = effective_spec(raw, config(default={"maxGpus": 1, "allowedUrlPrefixes": ["pvc://"]}))
        resolve_on_cluster(effective.compute)
        paths = []
    except ConfigError as error:
        paths = [problem.path for problem in error.problems]
    assert all(path.startswith("spec") for path in paths)


@pytest.mark.parametrize("depth", [250, 990, 100_000])
def test_a_spec_nested_too_deep_is_told(depth: int) -> None:
    deep: Any = 1
    for _ in range(depth):
        deep = {"a": deep}
    for part in ({"compute": {"podTemplate": deep}}, {"nothing": deep}):
        with pytest.raises(ConfigError, match=r"^spec: the nesting is too deep; write it flatter$"):
            effective_spec({**BASE, **part}, config())


# --- means and pods ---------------------------------------------------------------------------------------------------


def test_on_a_cluster_an_open_count_is_one() -> None:
    means = resolve_on_cluster(None)
    assert (means.generation.device, means.generation.replicas, means.generation.tensor_parallel_size) == ("GPU", 1, 1)
    assert means.evaluation == means.generation
    training = means.training
    assert (training.device, training.nodes, training.gpus_per_node, training.zero_stage) == ("GPU", 1, 1, None)
    assert (training.activation_checkpointing, training.checkpoint_interval_seconds) == ("Full", 900)


def test_a_cpu_run_has_no_gpus_and_recomputes_nothing() -> None:
    means = resolve_on_cluster(compute(device="CPU", training={"nodes": 2}), keep_checkpoints=3)
    assert (means.generation.device, means.training.device) == ("CPU", "CPU")
    assert (means.training.nodes, means.training.gpus_per_node, means.training.keep_checkpoints) == (2, 0, 3)
    assert means.training.activation_checkpointing == "None"
    assert resolve_on_cluster(compute(training={"gpusPerNode": 0})).training.device == "CPU"


def test_what_evaluation_leaves_open_is_generations() -> None:
    given_compute = compute(generation={"replicas": 4, "engineArgs": {"a": 1}}, evaluation={"tensorParallelSize": 2})
    means = resolve_on_cluster(given_compute)
    assert (means.evaluation.replicas, means.evaluation.tensor_parallel_size) == (4, 2)
    assert means.evaluation.engine_args == {"a": 1}


def test_pods_without_a_word_have_their_usual_grace() -> None:
    assert [pods_of(None, kind).grace_period_seconds for kind in ("generate", "train", "evaluate")] == [30, 120, 30]
    assert pods_of(None, "train").image is None
    assert pods_of(None, "train").resources == Resources()


def test_each_kind_of_step_has_its_own_pods_and_evaluation_generations() -> None:
    given_compute = compute(
        podTemplate={"of": "all"},
        generation={"image": "g", "gracePeriodSeconds": 0, "podTemplate": {"of": "generation"}},
        training={"podTemplate": {"of": "training"}, "resources": {"requests": {"cpu": 8, "memory": "64Gi"}}},
        evaluation={"image": "e"},
    )
    generate, train, evaluate = (pods_of(given_compute, kind) for kind in ("generate", "train", "evaluate"))
    assert (generate.image, train.image, evaluate.image) == ("g", None, "e")
    assert generate.pod_templates == evaluate.pod_templates == ({"of": "all"}, {"of": "generation"})
    assert train.pod_templates == ({"of": "all"}, {"of": "training"})
    assert (generate.grace_period_seconds, train.grace_period_seconds, evaluate.grace_period_seconds) == (0, 120, 0)
    assert train.resources.requests == {"cpu": "8", "memory": "64Gi"}
