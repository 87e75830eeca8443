"""Ranks in the network of their nodes, as a profile may have it: ports of the attempt's own, which the scheduler keeps apart."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from effective_runs import ATTEMPTS, CONFIG, TRAIN, effective
from hypothesis import given
from hypothesis import strategies as st

from selfalign_api.load import parse
from selfalign_api.operator_config import ClusterProfile
from selfalign_jobs.entry import parser
from selfalign_operator.effective import Attempt
from selfalign_operator.read import workload_view
from selfalign_operator.rendering import Manifests
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import config_map_name
from selfalign_operator.workloads.ports import FIRST, PAIRS

RDMA = CONFIG.model_copy(
    update={"profiles": {"default": parse(ClusterProfile, {"hostNetwork": True, "capabilities": ["IPC_LOCK"]}, "")}}
)
GANGS = {"compute": {"generation": {"replicas": 3}, "training": {"nodes": 2, "gpusPerNode": 8}}}
UIDS = st.uuids().map(str)


def pod(attempt: Attempt, spec: dict[str, Any] | None = None, **fields: Any) -> Manifest:
    found: Manifest = attempt_workload(effective(spec, RDMA, **fields), attempt)["spec"]["template"]["spec"]
    return found


def ports(spec: Manifest) -> dict[str, int]:
    return {each["name"]: each["containerPort"] for each in spec["containers"][0]["ports"]}


def variables(spec: Manifest) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}


def test_ranks_on_several_nodes_are_in_the_network_of_these_and_find_names_of_the_cluster() -> None:
    found = pod(TRAIN, GANGS)
    assert (found["hostNetwork"], found["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert found["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}


def test_every_port_is_one_of_the_nodes_and_the_program_is_told_of_it() -> None:
    found = pod(TRAIN, GANGS)
    step = found["containers"][0]
    assert all(each["hostPort"] == each["containerPort"] for each in step["ports"])
    assert parser().parse_args(step["args"]).listen == f":{ports(found)['progress']}"
    assert variables(found)["SELFALIGN_GANG_PORT"] == str(ports(found)["rendezvous"])


@pytest.mark.parametrize(
    ("attempt", "spec"), [*((each, GANGS) for each in ATTEMPTS if each is not TRAIN), (TRAIN, None)]
)
def test_engines_small_pods_and_a_single_node_stay_in_a_network_of_their_own(attempt: Attempt, spec: Any) -> None:
    found = pod(attempt, spec)
    assert "hostNetwork" not in found
    assert "dnsPolicy" not in found
    assert found["containers"][0]["ports"] == [{"name": "progress", "containerPort": 8080}]
    assert "SELFALIGN_GANG_PORT" not in variables(found)


def test_how_far_such_a_training_is_is_asked_at_its_own_port() -> None:
    found = effective(GANGS, RDMA)
    made = attempt_workload(found, TRAIN)
    view = workload_view(made | {"metadata": made["metadata"] | {"uid": "u"}})
    assert view is not None
    assert Manifests().progress_url(found, view).endswith(f".svc:{ports(pod(TRAIN, GANGS))['progress']}/progress")


@given(UIDS, UIDS, st.integers(1, 9), st.integers(1, 9))
def test_two_attempts_have_both_ports_in_common_or_none(a: str, b: str, first: int, second: int) -> None:
    """So that a scheduler that keeps one port of them apart keeps them apart."""
    one, other = (
        ports(pod(Attempt("i1-train", "train", 1, number), GANGS, uid=uid)) for uid, number in ((a, first), (b, second))
    )
    assert set(one.values()).isdisjoint(other.values()) or one == other
    assert all(FIRST <= port < FIRST + 2 * PAIRS for port in one.values())
    assert len(set(one.values())) == 2


def test_a_hundred_trainings_hardly_ever_draw_the_same_ports_and_an_attempt_always_its_own() -> None:
    uids = [str(uuid.UUID(int=number)) for number in range(100)]
    drawn = [ports(pod(TRAIN, GANGS, uid=uid))["progress"] for uid in uids]
    assert len(set(drawn)) >= 95
    assert drawn == [ports(pod(TRAIN, GANGS, uid=uid))["progress"] for uid in uids]


def test_a_profile_without_it_resolves_to_what_it_always_did() -> None:
    """A run under way whose ConfigMap is lost is made again by its name."""
    off = parse(ClusterProfile, {"hostNetwork": False}, "")
    assert config_map_name(effective(GANGS, CONFIG.model_copy(update={"profiles": {"default": off}}))) == (
        config_map_name(effective(GANGS))
    )
