"""What the chart becomes: golden manifests that a real apiserver takes, and values that it refuses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_golden import FOLDER, VALUES, golden, rendered
from dry_runs import dry_run
from helm import CHART, Helm
from kubernetes import client

from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.load import parse
from selfalign_api.operator_config import OperatorConfig
from testbed.binaries import NoBinaries
from testbed.cluster import Cluster
from testbed.prometheus_crds import prometheus_crds

LEVEL = "pod-security.kubernetes.io"
SYSTEM, TEAMS = "selfalign-restricted", ("team-a", "team-b")
RUNS = sorted((Path(__file__).parents[1] / "unit" / "golden").glob("*.yaml"))
PLATFORM_CRD = CHART.parents[1] / "crds" / "selfalignmentruns.yaml"


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Without a cluster."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def platform(cluster: Cluster) -> Iterator[None]:
    """The namespaces that the value files name, one that enforces the restricted standard, and prometheus-operator's CRDs."""
    restricted = {f"{LEVEL}/enforce": "restricted", f"{LEVEL}/warn": "restricted"}
    try:
        crds = prometheus_crds()
    except NoBinaries as problem:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"NO CRDS OF PROMETHEUS-OPERATOR, SO ITS OBJECTS ARE NOT TRIED: {problem}")
    for name in (SYSTEM, *TEAMS):
        metadata = client.V1ObjectMeta(name=name, labels=restricted)
        cluster.core.create_namespace(client.V1Namespace(metadata=metadata))
    for crd in crds:
        cluster.add_crd(crd)
    yield
    for name in (SYSTEM, *TEAMS):
        cluster.core.delete_namespace(name)
    for crd in crds:
        cluster.kubectl("delete", "-f", str(crd), "--wait=false")


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(text: str, kind: str) -> list[dict[str, Any]]:
    return [document for document in documents(text) if document["kind"] == kind]


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_lint_has_nothing_to_say(helm: Helm, values: Path) -> None:
    assert "0 chart(s) failed" in helm("lint", CHART, "--strict", "--kube-version=1.35.0", f"--values={values}")


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_golden_manifests_are_those_of_today(helm: Helm, values: Path) -> None:
    assert golden(helm, values) == (FOLDER / "golden" / values.name).read_text(encoding="utf-8"), "run `make chart`"


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_apiserver_takes_every_object_in_a_restricted_namespace(cluster: Cluster, helm: Helm, values: Path) -> None:
    found = dry_run(cluster, rendered(helm, values, "--set=crds.install=false", namespace=SYSTEM))
    assert found == []


def test_the_crd_is_ours_and_is_kept(helm: Helm) -> None:
    (crd,) = of_kind(rendered(helm, FOLDER / "values" / "defaults.yaml"), "CustomResourceDefinition")
    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert crd["metadata"].pop("labels")["app.kubernetes.io/managed-by"] == "Helm"
    assert crd == yaml.safe_load(PLATFORM_CRD.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def with_another_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with one more file of rules and one more dashboard, whose braces are not Helm's."""
    chart = shutil.copytree(CHART, tmp_path_factory.mktemp("chart") / CHART.name)
    rule = {"alert": "Another", "expr": "up == 0", "annotations": {"summary": "{{ $labels.job }} of {{ .Values }}"}}
    (chart / "files" / "rules" / "zz.yaml").write_text(yaml.safe_dump({"groups": [{"name": "zz", "rules": [rule]}]}))
    (chart / "files" / "dashboards" / "zz.json").write_text(json.dumps({"title": "{{run}}", "panels": []}, indent=2))
    return chart


def test_the_rules_are_those_of_the_files(helm: Helm, with_another_file: Path) -> None:
    text = rendered(helm, FOLDER / "values" / "monitoring.yaml", chart=with_another_file)
    files = sorted((with_another_file / "files" / "rules").glob("*.yaml"))
    groups = [group for path in files for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    (rule,) = of_kind(text, "PrometheusRule")
    assert rule["spec"] == {"groups": groups}


def test_runs_are_deleted_by_nobody_who_was_not_told_so_twice(helm: Helm) -> None:
    values = FOLDER / "values" / "defaults.yaml"
    with pytest.raises(RuntimeError, match=r"crds[.]deleteRuns=true as well if you mean that"):
        rendered(helm, values, "--set=crds.keep=false")
    (crd,) = of_kind(rendered(helm, values, "--set=crds.keep=false,crds.deleteRuns=true"), "CustomResourceDefinition")
    assert "annotations" not in crd["metadata"]


def test_the_alerts_link_to_where_the_runbooks_are_served(helm: Helm) -> None:
    url = "https://wiki.example/selfalign/runbooks"
    text = rendered(helm, FOLDER / "values" / "monitoring.yaml", f"--set=monitoring.runbookUrl={url}")
    (rule,) = of_kind(text, "PrometheusRule")
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each]
    links = {each["annotations"]["runbook_url"] for each in alerts}
    assert links == {f"{url}#{each['alert'].lower()}" for each in alerts}


@pytest.mark.parametrize("place", ["commonLabels", "podLabels", "monitoring.serviceMonitor.labels"])
def test_a_label_that_is_ours_already_stands_once_and_selectors_keep_theirs(helm: Helm, place: str) -> None:
    names = ("app.kubernetes.io/version", "app.kubernetes.io/name", "helm.sh/chart", "own")
    options = [f"--set-string={place}.{name.replace('.', chr(92) + '.')}=x" for name in names]
    text = rendered(helm, FOLDER / "values" / "monitoring.yaml", *options)
    for document in text.split("\n---\n"):
        keys = [
            line.strip().partition(":")[0] for line in document.splitlines() if "app.kubernetes.io/version:" in line
        ]
        assert len(keys) <= 2  # of a Deployment and its pods
    found = [read_yaml(document, "") for document in text.split("\n---\n") if document.strip()]  # refuses a key twice
    (deployment,) = (each for each in found if each["kind"] == "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert any((each["metadata"].get("labels") or {}).get("own") == "x" for each in found) or labels["own"] == "x"


def test_every_dashboard_is_a_config_map_that_the_sidecar_finds(helm: Helm, with_another_file: Path) -> None:
    text = rendered(helm, FOLDER / "values" / "monitoring.yaml", chart=with_another_file)
    found = [each for each in of_kind(text, "ConfigMap") if each["metadata"]["labels"].get("grafana_dashboard") == "1"]
    files = {path.name: path.read_text() for path in (with_another_file / "files" / "dashboards").glob("*.json")}
    assert {name: json.loads(content) for each in found for name, content in each["data"].items()} == {
        name: json.loads(content) for name, content in files.items()
    }


def test_the_pod_monitor_finds_the_pods_of_runs_by_what_these_have(helm: Helm) -> None:
    text = rendered(helm, FOLDER / "values" / "monitoring.yaml")
    (monitor,) = of_kind(text, "PodMonitor")
    wanted = {each["key"] for each in monitor["spec"]["selector"]["matchExpressions"]}
    port = monitor["spec"]["podMetricsEndpoints"][0]["port"]
    jobs = [job for path in RUNS for job in of_kind(path.read_text(encoding="utf-8"), "Job")]
    assert jobs
    for template in (job["spec"]["template"] for job in jobs):
        assert wanted <= template["metadata"]["labels"].keys()
        assert {"selfalign.dev/run"} <= template["metadata"]["annotations"].keys()
        (step,) = (each for each in template["spec"]["containers"] if each["name"] == "step")
        assert port in {each["name"] for each in step["ports"]}


def test_the_operator_is_among_those_who_read_progress(helm: Helm) -> None:
    text = rendered(helm, FOLDER / "values" / "locked-down.yaml")
    (deployment,) = of_kind(text, "Deployment")
    config = parse(OperatorConfig, yaml.safe_load(of_kind(text, "ConfigMap")[0]["data"]["operator.yaml"]), "")
    itself, prometheus = config.network.progress or ()
    assert itself.namespace == deployment["metadata"]["namespace"]
    assert itself.pod_labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert prometheus.namespace == "monitoring"


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_operator_takes_its_configuration_as_it_is_written(helm: Helm, values: Path) -> None:
    (config_map, *_) = of_kind(rendered(helm, values), "ConfigMap")
    written = read_yaml(config_map["data"]["operator.yaml"], "operator.yaml")
    given = yaml.safe_load((CHART / "values.yaml").read_text()) | yaml.safe_load(values.read_text())
    config = parse(OperatorConfig, written, "")
    assert config.images == parse(OperatorConfig, {"images": given["images"]}, "").images
    assert config.profiles == parse(OperatorConfig, {name: given[name] for name in ("images", "profiles")}, "").profiles


def test_a_changed_profile_restarts_the_operator(helm: Helm) -> None:
    def template(*options: str) -> Any:
        (deployment,) = of_kind(rendered(helm, FOLDER / "values" / "defaults.yaml", *options), "Deployment")
        return deployment["spec"]["template"]

    assert template() == template()
    assert template() != template("--set=profiles.default.maxGpus=8")


LEFT_OUT = {
    "rbac.create=false": {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"},
    "serviceAccount.create=false": {"ServiceAccount"},
    "crds.install=false": {"CustomResourceDefinition"},
    "podDisruptionBudget.enabled=false": {"PodDisruptionBudget"},
    "replicas=1": {"PodDisruptionBudget"},
}


@pytest.mark.parametrize(("switch", "kinds"), LEFT_OUT.items(), ids=LEFT_OUT)
def test_a_switch_leaves_out_its_objects_only(helm: Helm, switch: str, kinds: set[str]) -> None:
    def made(*options: str) -> set[str]:
        return {each["kind"] for each in documents(rendered(helm, FOLDER / "values" / "defaults.yaml", *options))}

    assert made() - made(f"--set={switch}") == kinds


def test_no_right_is_a_wildcard(helm: Helm) -> None:
    for values in VALUES:
        roles = [each for kind in ("Role", "ClusterRole") for each in of_kind(rendered(helm, values), kind)]
        assert roles
        assert "*" not in json.dumps([role["rules"] for role in roles])


REFUSED = {
    "an unknown value": ("--set=replica=3", "replica"),
    "an unknown value below": ("--set=image.tagg=1", "tagg"),
    "a switch that is no boolean": ("--set-string=crds.keep=no", "keep"),
    "no replica": ("--set=replicas=0", "replicas"),
    "another log format": ("--set=logFormat=xml", "logFormat"),
    "a digest without sha256": ("--set=image.digest=1234", "digest"),
    "a namespace twice": ("--set=watchNamespaces={a,a}", "watchNamespaces"),
    "an unknown field of a profile": ("--set=profiles.default.maxGpu=8", "maxGpu"),
    "an unknown field of a profile's compute": ("--set=profiles.default.compute.gpus=8", "gpus"),
    "an unknown peer": ("--set-json=network={\"progress\":[{\"pods\":{}}]}", "pods"),
    "no image to generate with": ("--set=images.generate=null", "generate"),
}  # fmt: skip


@pytest.mark.parametrize(("option", "named"), REFUSED.values(), ids=REFUSED)
def test_helm_refuses(helm: Helm, option: str, named: str) -> None:
    with pytest.raises(RuntimeError, match=f"(?s)don't meet the specifications.*{named}"):
        rendered(helm, FOLDER / "values" / "defaults.yaml", option)


def test_a_parent_chart_may_have_globals(helm: Helm) -> None:
    assert rendered(helm, FOLDER / "values" / "defaults.yaml", "--set=global.imageRegistry=x")


def test_an_older_kubernetes_is_refused(helm: Helm) -> None:
    with pytest.raises(RuntimeError, match=r"1\.33"):
        rendered(helm, FOLDER / "values" / "defaults.yaml", "--kube-version=1.32.9")
