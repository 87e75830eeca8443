"""A profile for namespaces by their labels, with the rights of a Role in the namespace and nothing of the cluster."""

from __future__ import annotations

from pathlib import Path

from helm import NO_CRD, Helm, Release
from operators import OperatorProcess
from runs import Run, run

from testbed.cluster import Cluster
from testbed.waiting import until

VALUES = """
profiles:
  gold:
    namespaceSelector: {matchExpressions: [{key: tier, operator: In, values: [gold]}]}
    compute: {podTemplate: {metadata: {labels: {tier: gold}}}}
"""


def test_a_namespace_has_the_profile_once_it_has_the_label(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    release = Release(Helm(tmp_path / "helm", cluster.kubeconfig), cluster, namespace)
    (tmp_path / "values.yaml").write_text(VALUES)
    release.install(NO_CRD, f"--set=watchNamespaces={{{namespace}}}", f"--values={tmp_path / 'values.yaml'}")
    operator: OperatorProcess = release.operator(tmp_path / "operator")
    try:
        operator.wait_ready()
        until(operator.leads, "leader")
        made = Run(cluster, namespace, run("gold", compute={"profileName": "gold"}))
        said = made.until("Accepted", "False", "ProfileNotFound")["message"]
        assert "gold names no profile" in said
        cluster.kubectl("label", "namespace", namespace, "tier=gold")
        made.patch({"metadata": {"annotations": {"example.com/look": "again"}}})
        made.until("Complete", "True")
        assert {job.spec.template.metadata.labels.get("tier") for job in made.jobs()} == {"gold"}
        assert operator.value("api_calls_total", code="403") == 0
    finally:
        operator.stop()
        release.uninstall()
