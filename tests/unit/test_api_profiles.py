"""Profiles stand below the run; one machine's counts stand where both leave them open."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.errors import ConfigError
from selfalign_api.load import parse, parse_spec
from selfalign_api.machine import CLUSTER_ONLY, ignored_on_one_machine, resolve_compute
from selfalign_api.means import Compute
from selfalign_api.messages import model_of
from selfalign_api.profiles import Profile, load_profile, profiles_file, with_profile
from selfalign_api.run import Spec

SPEC = {"recipe": "sao", "model": {"url": "./m"}}
FILE = """\
default: {storage: {url: "s3://ml/runs"}}
big:
  compute: {generation: {replicas: 4}, training: {gpusPerNode: 4, zeroStage: 2}}
  credentials: [{urlPrefix: "hf://", secretName: hf-token}]
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "selfalign").mkdir()
    (tmp_path / "selfalign" / "profiles.yaml").write_text(FILE)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def compute(**parts: object) -> Compute:
    return parse(Compute, parts, "spec.compute")


def test_the_file_is_where_configuration_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert profiles_file({}) == Path("/home/someone/.config/selfalign/profiles.yaml")
    assert profiles_file({"XDG_CONFIG_HOME": "/c"}) == Path("/c/selfalign/profiles.yaml")


def test_a_profile_is_found_by_name_and_default_without_one(environment: dict[str, str]) -> None:
    profile = load_profile("big", environment)
    assert profile.compute is not None
    assert profile.compute.training is not None
    assert profile.compute.training.gpus_per_node == 4
    default = load_profile(None, environment)
    assert default.storage is not None
    assert default.storage.url == "s3://ml/runs"


def test_without_a_file_there_is_an_empty_profile(tmp_path: Path) -> None:
    assert load_profile(None, {"XDG_CONFIG_HOME": str(tmp_path)}) == Profile()


def test_a_profile_that_is_not_there_is_told_with_those_that_are(environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_profile("huge", environment)
    assert str(caught.value) == (
        f"spec.compute.profileName: huge names no profile ({tmp_path}/selfalign/profiles.yaml has default, big); "
        "add it there or remove this"
    )


def test_a_wrong_profile_is_told_with_its_file(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "selfalign" / "profiles.yaml"
    file.write_text("bad: {compute: {device: quantum}}")
    with pytest.raises(ConfigError) as caught:
        load_profile("bad", environment)
    assert str(caught.value) == f"{file}: bad.compute.device: quantum is not one of GPU, CPU"
    file.write_text("[]")
    with pytest.raises(ConfigError, match="must be a map"):
        load_profile(None, environment)


def test_the_run_stands_above_its_profile(environment: dict[str, str]) -> None:
    spec = parse_spec({**SPEC, "compute": {"training": {"gpusPerNode": 1}}, "credentials": []})
    merged = with_profile(spec, load_profile("big", environment))
    assert merged.compute == compute(generation={"replicas": 4}, training={"gpusPerNode": 1, "zeroStage": 2})
    assert merged.credentials == ()


def test_tracking_is_the_profiles_unless_the_run_names_another() -> None:
    profile = parse(Profile, {"tracking": {"type": "MLflow", "url": "https://platform", "experiment": "all"}}, "")
    own = {"type": "MLflow", "url": "https://own"}
    found = [with_profile(parse_spec(SPEC | extra), profile).tracking for extra in ({}, {"tracking": own})]
    assert [(each.url, each.experiment) for each in found if each] == [
        ("https://platform", "all"),
        ("https://own", "all"),
    ]


def test_an_empty_profile_changes_nothing() -> None:
    spec = parse_spec({**SPEC, "suspend": True})
    assert with_profile(spec, Profile()) == spec


def test_a_machine_without_gpus_computes_on_its_cpu() -> None:
    means = resolve_compute(None, gpus=0)
    assert (means.generation.device, means.generation.replicas, means.evaluation.replicas) == ("CPU", 1, 1)
    assert (means.training.device, means.training.nodes, means.training.gpus_per_node) == ("CPU", 1, 0)
    assert (means.training.zero_stage, means.training.checkpoint_interval_seconds) == (None, 900)


def test_counts_left_open_are_what_is_there() -> None:
    means = resolve_compute(compute(generation={"tensorParallelSize": 2}, evaluation={"replicas": 1}), gpus=4)
    assert (means.generation.device, means.generation.replicas, means.evaluation.replicas) == ("GPU", 2, 1)
    assert (means.evaluation.tensor_parallel_size, means.training.gpus_per_node) == (2, 4)


def test_what_is_given_is_taken() -> None:
    given_compute = compute(
        device="CPU",
        generation={"replicas": 2, "gpuMemoryPercent": 50, "engineArgs": {"enforce_eager": True}},
        training={"nodes": 2, "zeroStage": 0, "activationCheckpointing": "None", "microBatchTokens": 64},
    )
    means = resolve_compute(given_compute, gpus=4, keep_checkpoints=2)
    assert (means.generation.replicas, means.generation.gpu_memory_percent) == (2, 50)
    assert means.generation.engine_args == {"enforce_eager": True}
    assert (means.training.nodes, means.training.gpus_per_node, means.training.zero_stage) == (2, 0, 0)
    assert (means.training.micro_batch_tokens, means.training.keep_checkpoints) == (64, 2)


@pytest.mark.parametrize(
    ("given_compute", "gpus", "line"),
    [
        (compute(device="GPU"), 0, "spec.compute.device: GPU is not here: this machine has 0 GPUs"),
        (
            compute(training={"gpusPerNode": 4}),
            1,
            "spec.compute.training.gpusPerNode: 4 is more than is here: this machine has 1 GPU",
        ),
        (
            compute(training={"nodes": 2}),
            1,
            "spec.compute.training.nodes: 2 is more than is here: this machine has 1 GPU",
        ),
        (
            compute(generation={"replicas": 4}),
            0,
            "spec.compute.generation.replicas: 4 is more than is here: this machine has 0 GPUs",
        ),
        (
            compute(evaluation={"tensorParallelSize": 4}),
            2,
            "spec.compute.evaluation.tensorParallelSize: 4 is more than is here: this machine has 2 GPUs",
        ),
    ],
)
def test_a_count_that_the_machine_lacks_is_told_with_fit(given_compute: Compute, gpus: int, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_compute(given_compute, gpus=gpus)
    assert str(caught.value) == f"{line}; lower it, or add --fit to take what is here"


COUNTS = st.integers(1, 9)
COMPUTES = st.fixed_dictionaries(
    {},
    optional={
        "device": st.just("GPU"),
        "generation": st.fixed_dictionaries({}, optional={"replicas": COUNTS, "tensorParallelSize": COUNTS}),
        "evaluation": st.fixed_dictionaries({}, optional={"replicas": COUNTS, "tensorParallelSize": COUNTS}),
        "training": st.fixed_dictionaries({}, optional={"nodes": COUNTS, "gpusPerNode": COUNTS}),
    },
)


@given(COMPUTES, st.integers(0, 8))
def test_fit_takes_what_is_here_and_never_more(parts: dict[str, object], gpus: int) -> None:
    means = resolve_compute(compute(**parts), gpus=gpus, fit=True)
    for engines in (means.generation, means.evaluation):
        assert engines.replicas * engines.tensor_parallel_size <= max(1, gpus)
    assert means.training.nodes * means.training.gpus_per_node <= gpus
    assert means.generation.device == ("GPU" if gpus else "CPU")


def test_what_only_a_cluster_reads_is_of_the_schema() -> None:
    for path in CLUSTER_ONLY:
        model: Any = Spec
        for step in path.split("."):
            (field,) = (field for field in model.model_fields.values() if field.alias == step)
            model = model_of(field)


def test_what_only_a_cluster_reads_is_named() -> None:
    spec = parse_spec(
        {
            **SPEC,
            "compute": {"queueName": "a", "podTemplate": {}, "training": {"nodes": 1, "image": "i"}},
            "credentials": [],
            "suspend": True,
        }
    )
    assert ignored_on_one_machine(spec) == (
        "spec.compute.queueName",
        "spec.compute.podTemplate",
        "spec.compute.training.image",
        "spec.credentials",
        "spec.suspend",
    )
    assert ignored_on_one_machine(parse_spec(SPEC)) == ()
