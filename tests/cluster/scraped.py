"""Runs on the testbed, scraped by a real Prometheus as the chart's monitors would have it scrape them.

One run of the example is real: its pods' programs run here. Others are played by KWOK: one holds GPUs, one has a training
that diverges, one waits for a person. So every series that the operator and the step programs have is there.
"""

from __future__ import annotations

import base64
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from operators import OperatorProcess
from playing import REAL_PROGRAM, playing
from pod_discovery import discovering
from runs import Run, attempt_is, run, step_is

from selfalign_api.kubectl_yaml import read_yaml
from testbed.cluster import Cluster
from testbed.prometheus import Prometheus
from testbed.scripts import REAL
from testbed.standing import CLAIM, EXAMPLE_MODEL, REPOSITORY
from testbed.waiting import until

FILES = REPOSITORY / "charts" / "selfalign-operator" / "files"
RULES = sorted((FILES / "rules").glob("*.yaml"))
NAMESPACE = "ml"
TARGETS = "pods.json"
REAL_RUN = "sao-tiny"
Json = dict[str, Any]


@dataclass(frozen=True)
class Scraped:
    """A Prometheus that has seen the runs from `began` to `ended` (seconds since the epoch)."""

    prometheus: Prometheus
    began: float
    ended: float
    scrape_seconds: int


@contextmanager
def scraped_runs(cluster: Cluster, folder: Path, personas: int, held_out: int, seconds: int) -> Iterator[Scraped]:
    """The real run of so many personas and held-out prompts, to its end; `seconds`: between scrapes."""
    cluster.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    claim = folder / "claim"
    shutil.copytree(EXAMPLE_MODEL, claim / EXAMPLE_MODEL.name)
    prompts = claim / EXAMPLE_MODEL.name / "heldout.jsonl"
    prompts.write_text("".join(prompts.read_text().splitlines(keepends=True)[:held_out]))
    cluster.add_claim(NAMESPACE, CLAIM, claim)
    operator = OperatorProcess(folder / "operator", cluster.kubeconfig, "--progress-through-apiserver")
    prometheus: Prometheus | None = None
    try:
        operator.wait_ready()
        jobs = [operator_job(operator.port), pods_job(cluster, folder)]
        prometheus = Prometheus(folder / "prometheus", jobs, RULES, seconds)
        leader = "selfalign_operator_leader"  # counters have a first sample, then, of 0
        until(lambda: prometheus.value(leader), f"{leader} in Prometheus")
        began = time.time()
        with playing(cluster, folder, REAL_PROGRAM), discovering(cluster, NAMESPACE, folder / TARGETS):
            made = Run(cluster, NAMESPACE, example(personas))
            played(cluster)
            made.until("Complete", "True", seconds=1500)
            wait_for_scrapes(prometheus)
        yield Scraped(prometheus, began, time.time(), seconds)
    finally:
        if prometheus is not None:
            prometheus.stop()
        operator.stop()
        cluster.core.delete_namespace(NAMESPACE)
        cluster.lose_pods(NAMESPACE)


def example(personas: int) -> Json:
    """examples/sao-tiny.yaml, its pods real."""
    manifest = read_yaml((REPOSITORY / "examples" / "sao-tiny.yaml").read_text(), "sao-tiny.yaml")
    spec = manifest["spec"]
    spec["data"]["personas"]["count"] = personas
    spec["compute"] = {"device": "CPU", "podTemplate": {"metadata": {"annotations": REAL}}}
    return manifest | {"metadata": {"name": REAL_RUN}}


def played(cluster: Cluster) -> None:
    """The runs that KWOK plays, each as far as it shall come."""
    holds = Run(cluster, NAMESPACE, run("holds-gpus", step_is("i1-train", trouble="Hang"), compute={"device": "GPU"}))
    said = {"error": "spec.training.learningRate: the training diverged", "reason": "TrainingDiverged"}
    diverging = run("diverges", step_is("i1-train", exit_code=64, message=said))
    again = attempt_is("i1-train", 1, trouble="Evicted")
    waiting = run("suspended", again, suspend=True)
    Run(cluster, NAMESPACE, run("evicted-once", again)).until("Complete", "True")
    Run(cluster, NAMESPACE, diverging).until("Failed", "True")
    Run(cluster, NAMESPACE, waiting).until("Suspended", "True")
    holds.until_step("i1-train", "Running")


def wait_for_scrapes(prometheus: Prometheus) -> None:
    """Until Prometheus has seen the run's results, and evaluated its rules after that."""
    seen = f'selfalign_operator_run_result{{run="{REAL_RUN}"}}'
    until(lambda: prometheus.ask("query", query=seen)["result"], "results of the run in Prometheus")
    # Each group once more: what the recording rules made of it is there then.
    now = time.time()

    def evaluated() -> bool:
        groups = prometheus.ask("rules")["groups"]
        return all(seconds_of(group["lastEvaluation"]) > now for group in groups)

    until(evaluated, "evaluation of the rules")


def seconds_of(moment: str) -> float:
    """Seconds since the epoch of an RFC 3339 time with nanoseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", moment).replace("Z", "+00:00")).timestamp()


# --- as prometheus-operator would configure it --------------------------------------------------------------------------


def operator_job(port: int) -> Json:
    """What the ServiceMonitor comes to, for an operator that is a process here."""
    labels = {
        "namespace": "selfalign-system",
        "pod": "selfalign-operator-0",
        "service": "selfalign-operator",
        "endpoint": "metrics",
    }
    targets = [{"targets": [f"127.0.0.1:{port}"], "labels": labels}]
    return {"job_name": "selfalign-operator", "static_configs": targets}


def pods_job(cluster: Cluster, folder: Path) -> Json:
    """What the PodMonitor comes to, with the chart's relabelings; the pods answer through the apiserver (pods/proxy)."""
    access = yaml.safe_load(cluster.kubeconfig.read_text())
    authority, user = access["clusters"][0]["cluster"], access["users"][0]["user"]
    files = {}
    for name, content in (
        ("ca_file", authority["certificate-authority-data"]),
        ("cert_file", user["client-certificate-data"]),
        ("key_file", user["client-key-data"]),
    ):
        (folder / name).write_bytes(base64.b64decode(content))
        files[name] = str(folder / name)
    server = authority["server"].removeprefix("https://")
    path = "/api/v1/namespaces/$1/pods/http:$2:8080/proxy/metrics"
    pod = ["__meta_kubernetes_namespace", "__meta_kubernetes_pod_name"]
    through_apiserver = [
        {"source_labels": pod, "separator": "/", "regex": "(.+)/(.+)", "target_label": "__metrics_path__"}
        | {"replacement": path},
        {"target_label": "__address__", "replacement": server},
    ]
    return {
        "job_name": "selfalign-runs",
        "scheme": "https",
        "tls_config": files,
        "file_sd_configs": [{"files": [str(folder / TARGETS)]}],
        "relabel_configs": [*_generated(), *chart_relabelings(), *through_apiserver],
    }


def _generated() -> list[Json]:
    """What prometheus-operator writes itself for the chart's selector and port (pkg/prometheus/promcfg.go, 0.80)."""

    def label(source: str, target: str) -> Json:
        return {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target}

    return [
        {"source_labels": ["__meta_kubernetes_pod_labelpresent_selfalign_dev_run_uid"], "regex": "true"}
        | {"action": "keep"},
        {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
        {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": "progress", "action": "keep"},
        label("namespace", "namespace"),
        label("pod_container_name", "container"),
        label("pod_name", "pod"),
        {"target_label": "endpoint", "replacement": "progress"},
        label("pod_ip", "instance"),
    ]


def chart_relabelings() -> list[Json]:
    """files/podmonitor-relabelings.yaml, as Prometheus itself spells the fields."""
    written = yaml.safe_load((FILES / "podmonitor-relabelings.yaml").read_text())
    return [{re.sub("([A-Z])", r"_\1", field).lower(): value for field, value in each.items()} for each in written]
