"""The core with the real manifests: a run of the examples from its first observation to its first Jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from effective_runs import UID, effective
from reconcile_world import CONFIG, START, World

from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.load import parse
from selfalign_api.operator_config import ClusterProfile
from selfalign_operator.decision import Decision
from selfalign_operator.names import base_name
from selfalign_operator.reconcile import decide
from selfalign_operator.rendering import Manifests
from selfalign_operator.views import ClaimView, WorkloadView

EXAMPLE = Path(__file__).parents[2] / "examples" / "sao-tiny.yaml"


def first_turn(engines: int = 1, **extra: object) -> Decision:
    compute = {"device": "CPU", "generation": {"replicas": engines}}
    world = World(spec=read_yaml(EXAMPLE.read_text(), str(EXAMPLE))["spec"] | {"compute": compute})
    world.extra = extra
    return decide(world.observed(), CONFIG, Manifests())


def test_the_first_turn_tries_a_job_of_each_kind_and_makes_the_accept_job() -> None:
    decision = first_turn(claims={"selfalign": ClaimView("selfalign", ("ReadWriteMany",))})
    assert [manifest["kind"] for manifest in decision.dry_runs] == ["Job", "Job", "Job"]
    assert [manifest["kind"] for manifest in decision.creations] == ["ConfigMap", "NetworkPolicy", "Job"]
    arguments = decision.creations[-1]["spec"]["template"]["spec"]["containers"][0]
    assert "accept" in [*arguments.get("command", ()), *arguments.get("args", ())]


def test_a_run_with_a_gang_makes_what_its_pods_find_one_another_by() -> None:
    kinds = [manifest["kind"] for manifest in first_turn(engines=2, claims={}).creations]
    assert kinds == ["Service", "ConfigMap", "Secret", "NetworkPolicy", "Job"]


def test_a_missing_claim_is_named_before_anything_is_made() -> None:
    decision = first_turn(claims={"selfalign": None})
    assert decision.creations == ()
    accepted = decision.status.condition("Accepted")
    assert (accepted.reason, "selfalign" in accepted.message) == ("ClaimNotFound", True)
    progressing = decision.status.condition("Progressing")
    assert (progressing.reason, progressing.message) == (
        "Pending",
        accepted.message,
    )  # what `kubectl get -o wide` shows


@pytest.mark.parametrize(
    ("engines", "mode", "told"), [(2, "ReadWriteOnce", True), (1, "ReadWriteOnce", False), (2, "ReadWriteMany", False)]
)
def test_a_gang_on_a_claim_of_one_node_is_warned_of_and_starts(engines: int, mode: str, told: bool) -> None:
    decision = first_turn(engines, claims={"selfalign": ClaimView("selfalign", (mode,))})
    assert ("OneNodeVolume" in [event.reason for event in decision.events]) == told
    assert decision.creations[-1]["kind"] == "Job"


def test_a_claim_of_one_pod_cannot_serve_a_gang() -> None:
    decision = first_turn(2, claims={"selfalign": ClaimView("selfalign", ("ReadWriteOncePod",))})
    accepted = decision.status.condition("Accepted")
    assert accepted is not None
    assert (decision.creations, accepted.reason, "ReadWriteMany" in accepted.message) == ((), "InvalidSpec", True)


def test_a_missing_profile_has_its_own_reason() -> None:
    world = World(spec=World().spec | {"compute": {"profileName": "h100"}})
    decision = decide(world.observed(), CONFIG, Manifests())
    accepted = decision.status.condition("Accepted")
    assert accepted is not None
    assert accepted.reason == "ProfileNotFound"


def test_a_profile_that_labels_choose_is_looked_for_again_for_no_watch_tells_of_them() -> None:
    chosen = {"namespaceSelector": {"matchLabels": {"team": "ml"}}}
    config = CONFIG.model_copy(update={"profiles": {"h100": parse(ClusterProfile, chosen, "profile")}})
    observed = World(spec=World().spec | {"compute": {"profileName": "h100"}}).observed()
    assert decide(observed, config, Manifests()).look_again_seconds == 300
    found = replace(observed, run=replace(observed.run, namespace_labels={"team": "ml"}))
    assert decide(found, config, Manifests()).creations
    assert decide(observed, CONFIG, Manifests()).look_again_seconds is None


def test_progress_is_asked_of_index_0_or_of_the_head_that_kuberay_serves() -> None:
    found = effective()
    for kind, host in (("Job", f"w-0.{base_name(found.name, found.uid)}"), ("RayJob", "w-head-svc")):
        workload = WorkloadView(kind, "w", "u", UID, "i1-generate", 1, False, START, False, False, "Active")
        assert Manifests().progress_url(found, workload) == f"http://{host}.research.svc:8080/progress"


def test_every_run_has_a_token_of_its_own() -> None:
    gang = effective({"compute": {"generation": {"replicas": 2}}})
    tokens = {Manifests().run_objects(gang)[2]["data"]["auth_token"] for _ in range(3)}
    assert len(tokens) == 3


@pytest.mark.parametrize(
    ("marks", "ttl", "told"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "app:selfalign.dev/SelfAlignmentRun:ns/run"}}, 60, True),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "runs"}}, 0, True),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "runs"}}, None, False),
        ({"labels": {"app.kubernetes.io/instance": "by-hand"}}, 60, False),
        ({}, 60, False),
    ],
)
def test_a_ttl_under_a_tool_that_would_make_the_run_anew_is_warned_of_once(
    marks: dict[str, dict[str, str]], ttl: int | None, told: bool
) -> None:
    life = {} if ttl is None else {"ttlSecondsAfterFinished": ttl}
    spec = read_yaml(EXAMPLE.read_text(), str(EXAMPLE))["spec"] | {"compute": {"device": "CPU"}} | life
    world = World(spec=spec)
    observed = world.observed()
    seen = replace(observed, run=replace(observed.run, **marks), claims={})
    decision = decide(seen, CONFIG, Manifests())
    assert [event.reason for event in decision.events].count("TtlUnderApplier") == told
    later = replace(seen, run=replace(seen.run, status=decision.status))
    assert "TtlUnderApplier" not in [event.reason for event in decide(later, CONFIG, Manifests()).events]
