"""Each alert fires where it should and not where it should not (promtool, alerts/), and has a section in the runbooks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import prometheus

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "charts" / "selfalign-operator" / "files" / "rules").glob("*.yaml"))
CASES = Path(__file__).parent / "alerts"
RUNBOOKS = ROOT / "docs" / "runbooks.md"


def alerts() -> list[dict[str, Any]]:
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


NAMES = [alert["alert"] for alert in alerts()]


def promtool(*arguments: str | Path) -> None:
    if words := prometheus.required():
        pytest.skip(words)
    done = subprocess.run([prometheus.program("promtool"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.mark.parametrize("name", NAMES)
def test_it_fires_and_does_not_fire(name: str) -> None:
    file = CASES / f"{name}.yaml"
    asked = [case for test in yaml.safe_load(file.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in asked} == {name}
    assert {bool(case["exp_alerts"]) for case in asked} == {True, False}
    promtool("test", "rules", file)


def test_a_case_that_is_wrong_is_found(tmp_path: Path) -> None:
    """promtool would also be content with a file that it does not read."""
    case = yaml.safe_load((CASES / "SelfalignWatchStale.yaml").read_text())
    case["rule_files"] = [str(CASES / file) for file in case["rule_files"]]
    case["tests"][0]["alert_rule_test"][0]["exp_alerts"] = []
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(case))
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", tmp_path / "wrong.yaml")


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_it_says_how_bad_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert {"summary", "description", "runbook_url"} == set(alert["annotations"])
    file, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    sections = re.findall(r"^## (.+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in [section.lower() for section in sections]


def test_every_section_of_the_runbooks_is_of_an_alert() -> None:
    assert re.findall(r"^## (.+)$", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE) == NAMES
