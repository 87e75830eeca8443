"""docs/clusters.md: every value that it shows is one of the chart's, and a run with it becomes pods."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from effective_runs import ATTEMPTS, effective

from selfalign_api.load import parse
from selfalign_api.merge import merge
from selfalign_api.operator_config import OperatorConfig
from selfalign_operator.workloads.attempt import attempt_workload

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "charts"))
from chart_values import Values  # noqa: E402

PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
DEFAULTS = yaml.safe_load((ROOT / "charts" / "selfalign-operator" / "values.yaml").read_text(encoding="utf-8"))
BLOCKS = {
    section.partition("\n")[0]: yaml.safe_load(block)
    for section in PAGE.split("\n## ")
    for block in re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
}


@pytest.mark.parametrize("values", BLOCKS.values(), ids=BLOCKS)
def test_the_values_are_the_charts_and_every_attempt_is_rendered(values: dict[str, Any]) -> None:
    whole = merge(DEFAULTS, values)
    parse(Values, whole, "values")
    config = parse(OperatorConfig, {part: whole[part] for part in ("images", "profiles", "network")}, "operator.yaml")
    for name, profile in config.profiles.items():
        compute = {"profileName": name, "generation": {"replicas": 2}, "training": {"nodes": 2}}
        spec = {"compute": compute, "storage": {"url": "s3://ml/runs"}, "model": {"url": "s3://ml/m"}}
        found = effective(spec, config, namespace=(profile.namespaces or ("research",))[0])
        for attempt in ATTEMPTS:
            assert "$patch" not in str(attempt_workload(found, attempt))


def test_openshifts_values_leave_no_uid() -> None:
    config = parse(OperatorConfig, merge({"images": DEFAULTS["images"]}, BLOCKS["OpenShift"]), "operator.yaml")
    for attempt in ATTEMPTS:
        context = attempt_workload(effective({}, config), attempt)["spec"]["template"]["spec"]["securityContext"]
        assert {"runAsUser", "runAsGroup", "fsGroup"} & context.keys() == set()
        assert context["runAsNonRoot"] is True


def test_the_small_pods_of_autopilot_start_no_gpu_node() -> None:
    config = parse(OperatorConfig, merge({"images": DEFAULTS["images"]}, BLOCKS["GKE Autopilot"]), "operator.yaml")
    spec = attempt_workload(effective({}, config), ATTEMPTS[0])["spec"]["template"]["spec"]
    assert "nodeSelector" not in spec
    assert "ephemeral-storage" not in str(spec["containers"][0]["resources"])
