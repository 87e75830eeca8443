"""How many engines of what size each model gets, and the pods and the Ray nodes that hold them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.cluster import resolve_on_cluster
from selfalign_api.errors import ConfigError
from selfalign_api.load import parse
from selfalign_api.machine import resolve_compute
from selfalign_api.means import Compute
from selfalign_api.run_file import EngineCounts, GenerationMeans
from selfalign_jobs.generate.session import engines_here, node_resources, ray_resources
from selfalign_jobs.step.gang import Gang

BIG = {"generation": {"replicas": 4, "models": [{"modelName": "big", "replicas": 1, "tensorParallelSize": 4}]}}

counts = st.builds(EngineCounts, replicas=st.integers(1, 9), tensor_parallel_size=st.sampled_from([1, 2, 4, 8]))
means = st.builds(
    lambda own, others: GenerationMeans(
        device="GPU",
        replicas=own.replicas,
        tensor_parallel_size=own.tensor_parallel_size,
        models={f"m{number}": each for number, each in enumerate(others)},
    ),
    counts,
    st.lists(counts, max_size=4),
)


def compute(given: object) -> Compute:
    return parse(Compute, given, "spec.compute")


def test_a_model_has_its_own_counts_and_what_it_leaves_open_is_generations() -> None:
    found = resolve_on_cluster(compute(BIG))
    for engines in (found.generation, found.evaluation):
        assert engines.of("policy").replicas == 4
        assert engines.of("another").tensor_parallel_size == 1
        assert (engines.of("big").replicas, engines.of("big").tensor_parallel_size) == (1, 4)
    left_open = {"generation": {"replicas": 3, "models": [{"modelName": "big", "tensorParallelSize": 2}]}}
    assert resolve_on_cluster(compute(left_open)).generation.of("big").replicas == 3


def test_on_one_machine_a_model_has_as_many_engines_as_its_gpus_allow() -> None:
    found = resolve_compute(
        compute({"generation": {"models": [{"modelName": "big", "tensorParallelSize": 4}]}}), gpus=8
    )
    assert (found.generation.replicas, found.generation.of("big").replicas) == (8, 2)


@pytest.mark.parametrize(
    ("entry", "field"), [({"tensorParallelSize": 4}, "tensorParallelSize"), ({"replicas": 3}, "replicas")]
)
def test_counts_that_a_machine_lacks_are_told_and_fitted(entry: dict[str, int], field: str) -> None:
    asked = compute({"generation": {"models": [{"modelName": "big"} | entry]}})
    with pytest.raises(ConfigError, match=rf"spec.compute.generation.models\[big\].{field}: .*add --fit"):
        resolve_compute(asked, gpus=2)
    assert resolve_compute(asked, gpus=2, fit=True).generation.models == {}


def test_counts_of_no_model_are_not_written_down() -> None:
    assert "models" not in GenerationMeans(device="CPU").model_dump(mode="json")


def test_a_large_judge_and_small_engines_share_one_pod() -> None:
    found = resolve_on_cluster(compute(BIG)).generation
    assert (found.pods, found.gpus_of_pod, found.in_pod("policy"), found.in_pod("big")) == (1, 4, 4, 1)


@given(means)
def test_the_pods_hold_all_engines_of_any_one_model_and_no_fewer_would(found: GenerationMeans) -> None:
    node = node_resources(found, pod=True)
    needed = []
    for name in ("policy", *found.models):
        one = ray_resources(found.of(name))
        fit = node["num_gpus"] // one["num_gpus"]
        assert fit >= 1
        assert node["num_cpus"] >= fit == found.in_pod(name)
        needed.append(-(-found.of(name).replicas // fit))
        assert engines_here(found, name, Gang(2, 0, "head", "127.0.0.1")) == fit
    assert found.pods == max(needed)


@given(means)
def test_a_machine_is_told_of_the_gpus_that_its_hungriest_model_takes(found: GenerationMeans) -> None:
    node = node_resources(found, pod=False)
    every = [found.of(name) for name in ("policy", *found.models)]
    assert node["num_gpus"] == max(each.replicas * each.tensor_parallel_size for each in every)
    assert node["num_cpus"] == max(each.replicas for each in every)
