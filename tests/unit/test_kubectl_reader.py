"""The pod that reads a run's folder for a person, what it prints, and what is made of it; what serves a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from effective_runs import GENERATE, UID, effective, run_view
from hypothesis import given
from hypothesis import strategies as st
from report_run import Chances, make_run

from selfalign_api.errors import ConfigError
from selfalign_api.frames import document_of, frames
from selfalign_api.status import Condition, Figure, Status, StepStatus, WorkloadRef
from selfalign_jobs.places.store import Folder
from selfalign_jobs.reading import Asked, tell
from selfalign_kubectl.applying import check
from selfalign_kubectl.cluster import Cluster
from selfalign_kubectl.logs import pieces_of
from selfalign_kubectl.pairs import pair_lines
from selfalign_kubectl.reader import effective_of, reader_pod
from selfalign_kubectl.refusals import Call, Refused
from selfalign_kubectl.serving import Model, deployment, inference_service, model_of
from selfalign_operator.effective import EffectiveRun
from selfalign_operator.kube.resources import CONFIG_MAP, Resource
from selfalign_operator.render import to_yaml
from selfalign_operator.views import ATTEMPT_LABEL, COLLECT_LABEL, STEP_LABEL, UID_LABEL
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import config_map

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.lists(st.text(), max_size=3))
def test_a_document_comes_whole_through_a_log_with_other_lines(document: Any, others: list[str]) -> None:
    lines = list(frames(json.loads(json.dumps(document).encode("utf-8", "replace"))))
    mixed = [line for pair in zip(lines, [*others, *[""] * len(lines)], strict=False) for line in (*pair, "noise")]
    assert document_of(line + "\n" for line in mixed) == json.loads(json.dumps(document))


@given(st.integers(0, 10**6), st.sampled_from(["cut", "change"]))
def test_a_document_that_is_cut_or_changed_is_never_taken_for_whole(place: int, how: str) -> None:
    lines = list(frames({"report": "x" * 50_000 + str(list(range(9000)))}))
    number = place % len(lines)
    broken = lines[:number] if how == "cut" else [*lines[:number], lines[number][:-1] + "?", *lines[number + 1 :]]
    with pytest.raises(ValueError, match="did not come whole"):
        document_of(broken)


def test_the_reader_has_the_run_s_mounts_and_credentials_and_nothing_more() -> None:
    places = {"storage": {"url": "s3://b/runs"}, "credentials": [{"urlPrefix": "s3://", "secretName": "keys"}]}
    gpus = {"compute": {"generation": {"replicas": 2}, "podTemplate": {"spec": {"nodeSelector": {"gpu": "h100"}}}}}
    run = effective(places | gpus)
    pod = reader_pod(run, ("pairs", "--rows", "5"))
    (step,) = pod["spec"]["containers"]
    assert step["args"][-4:] == ["--read", "pairs", "--rows", "5"]
    assert step["envFrom"] == [{"secretRef": {"name": "keys"}}]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in step["volumeMounts"]}
    assert mounts["/mnt/models"] is True
    assert "/mnt/data" not in mounts
    assert "nvidia.com/gpu" not in json.dumps(step["resources"])
    assert "nodeSelector" not in pod["spec"]
    assert step["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["activeDeadlineSeconds"] == 600


def test_the_reader_belongs_to_the_run_and_is_none_of_its_attempts() -> None:
    metadata = reader_pod(effective(), ("report",))["metadata"]
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("SelfAlignmentRun", UID)
    assert "blockOwnerDeletion" not in owner  # who may make pods need not be able to finalise runs
    assert not {UID_LABEL, STEP_LABEL, ATTEMPT_LABEL} & metadata["labels"].keys()
    assert len(metadata["generateName"]) <= 58


class OneConfigMap(Cluster):
    """A cluster that has one ConfigMap."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.manifest, self.namespace, self.given = manifest, "research", False

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        assert (resource, name) == (CONFIG_MAP, self.manifest["metadata"]["name"])
        return self.manifest

    def list(self, resource: Resource, **_: Any) -> list[dict[str, Any]]:  # type: ignore[override]
        raise Refused(Call("list", resource, "selfalign-system"), 403, "Forbidden", 'User "x" cannot list', False)


def begun(**spec: Any) -> tuple[EffectiveRun, Any]:
    run = effective(spec)
    name = config_map(run)["metadata"]["name"]
    status = {"plan": {"config_map_name": name}}
    return run, run_view(spec, status=Status.model_validate(status))


def test_a_run_is_read_as_it_was_resolved_though_its_compute_was_changed_since() -> None:
    resolved, view = begun()
    changed = run_view({"compute": {"profileName": "gone"}}, status=view.status)
    found = effective_of(OneConfigMap(config_map(resolved)), changed)
    assert (found.storage, found.mounts, found.platform) == (resolved.storage, resolved.mounts, resolved.platform)


def test_a_run_that_has_not_begun_has_nothing_to_read() -> None:
    with pytest.raises(ConfigError, match="has not begun"):
        effective_of(OneConfigMap({}), run_view())


# --- what the pod prints ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return make_run(tmp_path_factory.mktemp("run"), Chances(personas=60, held_out=20)).folder


def told(run: Folder, asked: Asked, capsys: pytest.CaptureFixture[str]) -> Any:
    tell(run, asked)
    return document_of(capsys.readouterr().out.splitlines())


def test_the_report_is_the_one_that_is_there_else_as_far_as_the_run_has_come(
    finished: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(finished, Asked("report"), capsys).startswith("<!doctype html>")
    assert not finished.exists("report.html")  # reading writes nothing
    (Path(finished.path) / "report.html").write_text("the page")
    assert told(finished, Asked("report"), capsys) == "the page"


def test_so_many_pairs_are_drawn_always_the_same_and_each_is_whole(
    finished: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = told(finished, Asked("pairs", rows=7), capsys)
    assert pairs == told(finished, Asked("pairs", rows=7), capsys)
    assert len(pairs) == 7
    assert all(pair["iteration"] == 1 and pair["prompt"] and pair["chosen"] and pair["rejected"] for pair in pairs)
    text = "\n".join(line.plain for line in pair_lines(pairs))
    assert f"chosen    {pairs[0]['chosen'].splitlines()[0]}" in text
    assert text.count("pair ") >= 7


def test_kept_logs_come_by_step_attempt_and_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Folder.open(tmp_path.as_uri())
    for name in (
        "i1-train/10/0-T1",
        "i1-train/9/0-T2",
        "i1-train/9/0-T1",
        "i1-train/9/1-T1",
        "accept/1/0-T0",
        "accept/x/0-T0",
    ):
        run.write(f"logs/{name}.txt", name.encode())
    found = [each["text"] for each in told(run, Asked("logs"), capsys)]
    assert found == ["accept/1/0-T0", "i1-train/9/0-T1", "i1-train/9/0-T2", "i1-train/9/1-T1", "i1-train/10/0-T1"]
    assert [each["attempt"] for each in told(run, Asked("logs", step="accept"), capsys)] == [1]


@pytest.mark.parametrize("what", ["report", "pairs"])
def test_a_folder_without_a_plan_says_so(tmp_path: Path, what: Any) -> None:
    with pytest.raises(ConfigError, match="the run was not accepted yet"):
        tell(Folder.open(tmp_path.as_uri()), Asked(what))


# --- logs: which attempts there are, and which of them have pods ------------------------------------------------------


def pod(step: str, attempt: int, index: int = 0, **labels: str) -> dict[str, Any]:
    own = {STEP_LABEL: step, ATTEMPT_LABEL: str(attempt), "batch.kubernetes.io/job-completion-index": str(index)}
    name = f"{step}-{attempt}-{index}"
    return {"metadata": {"name": name, "uid": name, "labels": own | labels}}


STEPS = (
    StepStatus(name="accept", kind="accept", state="Succeeded", attempts=1),
    StepStatus(
        name="i1-generate", kind="generate", state="Running", attempts=3,
        workload=WorkloadRef(api_version="batch/v1", kind="Job", name="j", uid="u"),
    ),
    StepStatus(name="i1-train", kind="train"),
)  # fmt: skip


def test_every_attempt_is_a_piece_of_the_log_in_order_with_the_pods_that_it_has() -> None:
    pods = [
        pod("i1-generate", 3),
        pod("i1-generate", 3, 1),
        pod("i1-generate", 1),
        pod("i1-generate", 2, **{COLLECT_LABEL: "true"}),
        pod("accept", 1, **{"ray.io/node-type": "head"}),
        pod("someone", 1),
    ]
    found = pieces_of(Status(steps=STEPS), pods, None, 0)
    assert [(piece.step, piece.attempt, piece.over, [each.name for each in piece.pods]) for piece in found] == [
        ("accept", 1, True, []),
        ("i1-generate", 1, True, ["i1-generate-1-0"]),
        ("i1-generate", 2, True, []),
        ("i1-generate", 3, False, ["i1-generate-3-0"]),
    ]
    (other,) = [piece for piece in pieces_of(Status(steps=STEPS), pods, "i1-generate", 1) if piece.pods]
    assert other.pods[0].name == "i1-generate-3-1"


# --- serve ------------------------------------------------------------------------------------------------------------

TRAINED = StepStatus(
    name="i1-train", kind="train", state="Succeeded", url="file:///mnt/data/runs/research/small/iter-1/i1-train"
)
COMPLETE = Condition(
    type="Complete",
    status="True",
    reason="AllStepsDone",
    last_transition_time="2026-11-29T09:00:00Z",
    observed_generation=1,
)


def test_what_is_served_is_what_was_published_else_the_newest_training_s_model() -> None:
    published = effective({"output": {"url": "pvc://data/out"}})
    adapter = effective({"output": {"url": "pvc://data/out", "adapter": "Keep"}, "training": {"adapter": "lora"}})
    done = Status(steps=(TRAINED,), conditions=(COMPLETE,))
    assert model_of(published, done).url == "pvc://data/out"
    of_step = "file:///mnt/data/runs/research/small/iter-1/i1-train/model"
    assert model_of(published, Status(steps=(TRAINED,))).url == of_step
    assert model_of(adapter, done).url == of_step
    with pytest.raises(ConfigError, match="has trained no model yet"):
        model_of(published, Status(steps=(STEPS[0],)))


def test_whoever_serves_a_model_that_a_gate_keeps_back_is_told_so() -> None:
    failed = COMPLETE.model_copy(update={"type": "Failed", "reason": "GateNotPassed"})
    published = effective({"output": {"url": "pvc://data/out"}})
    found = model_of(published, Status(steps=(TRAINED,), conditions=(failed,)))
    assert found.words == "the model of step i1-train, which a gate keeps from being published"


def test_of_a_run_that_selects_the_best_round_s_model_is_served() -> None:
    rounds = [
        TRAINED.model_copy(update={"name": f"i{k}-train", "iteration": k, "url": f"file:///r/iter-{k}/i{k}-train"})
        for k in (1, 2, 3)
    ]
    told = (Figure(name="iteration", value="2"), Figure(name="files", value="0"))
    select = StepStatus(name="select", kind="publish", iteration=3, state="Succeeded", result=told)
    assert model_of(effective({}), Status(steps=(*rounds, select))).url == "file:///r/iter-2/i2-train/model"
    waits = select.model_copy(update={"state": "Pending", "result": ()})
    assert model_of(effective({}), Status(steps=(*rounds, waits))).url == "file:///r/iter-3/i3-train/model"


def test_a_deployment_runs_where_the_engines_did_with_the_model_mounted_for_reading() -> None:
    compute = {
        "generation": {"tensorParallelSize": 2},
        "podTemplate": {"spec": {"tolerations": [{"operator": "Exists"}]}},
    }
    run = effective({"compute": compute})
    made, service = yaml.safe_load_all(to_yaml(deployment(run, Model("pvc://data/out", ""), None)))
    spec = made["spec"]["template"]["spec"]
    (server,) = spec["containers"]
    assert server["command"] == ["vllm", "serve", "/mnt/data/out"]
    assert "--tensor-parallel-size=2" in server["args"]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"name": "pvc-data", "mountPath": "/mnt/data", "readOnly": True} in server["volumeMounts"]
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert "restartPolicy" not in spec
    assert "run" not in {volume["name"] for volume in spec["volumes"]}
    assert service["spec"]["selector"] == made["spec"]["selector"]["matchLabels"]
    engines = attempt_workload(run, GENERATE)
    assert server["image"] == engines["spec"]["template"]["spec"]["containers"][0]["image"]


def test_a_model_in_a_bucket_is_fetched_first_with_the_run_s_credentials() -> None:
    run = effective({"storage": {"url": "s3://b/r"}, "credentials": [{"urlPrefix": "s3://", "secretName": "keys"}]})
    made, _ = deployment(run, Model("s3://b/out", ""), "vllm/vllm-openai:v1")
    spec = made["spec"]["template"]["spec"]
    (fetching,), (server,) = spec["initContainers"], spec["containers"]
    assert fetching["command"][-2:] == ["s3://b/out", "/models/small"]
    assert fetching["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert (server["image"], server["command"][-1]) == ("vllm/vllm-openai:v1", "/models/small")


@pytest.mark.parametrize(
    ("url", "storage"),
    [
        ("pvc://data/out", "pvc://data/out"),
        ("file:///mnt/data/runs/x", "pvc://data/runs/x"),
        ("s3://b/out", "s3://b/out"),
    ],
)
def test_kserve_is_told_the_place_by_its_own_url(url: str, storage: str) -> None:
    (made,) = inference_service(effective(), Model(url, ""))
    assert made["spec"]["predictor"]["model"]["storageUri"] == storage


def test_a_place_that_kserve_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="no place that KServe reads"):
        inference_service(effective(), Model("file:///opt/model", ""))


# --- apply ------------------------------------------------------------------------------------------------------------

FILE = """
apiVersion: selfalign.dev/v1alpha1
kind: SelfAlignmentRun
metadata: {name: small%s}
spec: {recipe: sao, model: {url: "pvc://m/m"}, storage: {url: "pvc://s/r"}%s}
"""


def checked(tmp_path: Path, metadata: str = "", spec: str = "", given: bool = False) -> Any:
    file = tmp_path / "run.yaml"
    file.write_text(FILE % (metadata, spec))
    cluster = OneConfigMap({})
    cluster.given = given
    return check(file, cluster, "selfalign-system")


def test_a_run_is_applied_as_the_file_has_it_in_the_namespace_that_is_meant(tmp_path: Path) -> None:
    found = checked(tmp_path)
    assert found.manifest["metadata"] == {"name": "small", "namespace": "research"}
    assert found.manifest["spec"] == yaml.safe_load(FILE % ("", ""))["spec"]
    assert "are not yours to read" in found.note
    assert checked(tmp_path, ", namespace: other").manifest["metadata"]["namespace"] == "other"
    with pytest.raises(ConfigError, match="is not the one of --namespace"):
        checked(tmp_path, ", namespace: other", given=True)


@pytest.mark.parametrize(
    "spec", [", seed: x", ", evaluation: {gates: [{check: nope, figure: value, atLeast: 1}]}", ", nothing: 1"]
)
def test_a_run_that_breaks_a_rule_reaches_no_cluster(tmp_path: Path, spec: str) -> None:
    with pytest.raises(ConfigError, match=r"spec\."):
        checked(tmp_path, spec=spec)
