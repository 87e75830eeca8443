"""A cluster whose CRD has no schema, as after years of older ones; runs that are not as they must be, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from malformed import Malformer
from runs import GROUP, PLURAL, VERSION, run

from testbed.cluster import Cluster
from testbed.waiting import until

CRD = Path(__file__).parents[2] / "crds" / "selfalignmentruns.yaml"
FREE = {"x-kubernetes-preserve-unknown-fields": True}


def the_crd() -> dict[str, Any]:
    crd: dict[str, Any] = yaml.safe_load(CRD.read_text())
    return crd


def schema_of(part: str) -> dict[str, Any]:
    """The real schema of spec or status."""
    schema: dict[str, Any] = the_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
    return schema


def without_schema() -> dict[str, Any]:
    crd = the_crd()
    (version,) = crd["spec"]["versions"]
    del version["selectableFields"]  # of fields that the schema does not know
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"spec": FREE, "status": FREE}}}
    version["additionalPrinterColumns"] = []
    return crd


def apply_crd(cluster: Cluster, crd: dict[str, Any]) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f=-", stdin=json.dumps(crd))
    until(lambda: "True" in cluster.kubectl("get", "crd", crd["metadata"]["name"], "-o=yaml"), "served CRD")


@contextmanager
def loose_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster in `folder`, a new one, without a schema."""
    cluster = Cluster(folder)
    try:
        apply_crd(cluster, without_schema())
        yield cluster
    finally:
        cluster.stop()


def everything(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    found = cluster.custom.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL)["items"]
    return {each["metadata"]["name"]: each for each in found}


def told(made: dict[str, Any]) -> str:
    """What the run says of itself for this generation, in one word; empty while it says nothing, or only that it goes on."""
    status = made.get("status")
    if not isinstance(status, dict) or status.get("observedGeneration") != made["metadata"]["generation"]:
        return ""
    conditions = status["conditions"] if isinstance(status.get("conditions"), list) else []
    found = {each.get("type"): each for each in conditions if isinstance(each, dict)}
    ended = (("Accepted", "False"), ("Complete", "True"), ("Failed", "True"), ("Suspended", "True"))
    for kind, value in (*ended, ("Stalled", "True")):  # held, by the plan of another run that a hand has written, say
        if found.get(kind, {}).get("status") == value:
            assert found[kind]["reason"]
            return kind
    return ""


def silent(cluster: Cluster, namespace: str, names: set[str]) -> list[str]:
    there = everything(cluster, namespace)
    return [name for name in sorted(names & set(there)) if not told(there[name])]


def until_all_are_told(cluster: Cluster, namespace: str, names: set[str], seconds: float = 200) -> None:
    try:
        until(lambda: not silent(cluster, namespace, names), "word of every run", seconds, pause=0.5)
    except TimeoutError as error:
        left = silent(cluster, namespace, names)
        shown = json.dumps([everything(cluster, namespace)[name] for name in left[:3]], indent=1)
        raise TimeoutError(f"{error}: nothing is said of {len(left)} runs, such as {shown}") from None


def side_by_side(do: Callable[[Any], Any], items: list[Any]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(do, items))


def create(cluster: Cluster, namespace: str, manifests: list[dict[str, Any]]) -> set[str]:
    side_by_side(
        lambda each: cluster.custom.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, each), manifests
    )
    return {each["metadata"]["name"] for each in manifests}


def broken_runs(count: int, name: str) -> list[dict[str, Any]]:
    schema, good = schema_of("spec"), run("good")
    specs = (Malformer(schema, seed).broken(good["spec"]) for seed in range(count))
    return [good | {"metadata": {"name": f"{name}-{seed}"}, "spec": spec} for seed, spec in enumerate(specs)]
