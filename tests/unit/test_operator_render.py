"""`selfalign render` prints what a run becomes; the printed manifests are kept and read by people."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfalign_jobs.local.cli import main
from selfalign_operator.names import base_name
from selfalign_operator.registered import register
from selfalign_operator.render import PLACEHOLDER_UID

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
RUNS = sorted(
    [*(HERE / "golden_runs").glob("*.yaml"), *EXAMPLES.glob("*-tiny.yaml")], key=lambda run: run.name
)  # each way of a workload, and each recipe
CONFIG = HERE / "golden_runs" / "operator" / "config.yaml"


def rendered(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["render", *(str(argument) for argument in arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("run", RUNS, ids=lambda path: path.stem)
def test_the_kept_manifests_are_those_that_are_rendered(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = (HERE / "golden" / run.name).read_text()
    assert rendered(capsys, run, "--config", CONFIG) == golden, "stale: make golden, and read the difference"


def test_no_manifest_is_kept_for_a_run_that_is_gone() -> None:
    assert [path.name for path in sorted((HERE / "golden").glob("*"))] == [path.name for path in RUNS]


def test_the_example_is_rendered_without_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    manifests: list[dict[str, Any]] = list(yaml.safe_load_all(rendered(capsys, EXAMPLES / "sao-tiny.yaml")))
    base = base_name("sao-tiny", PLACEHOLDER_UID)
    assert [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests] == [
        ("ConfigMap", manifests[0]["metadata"]["name"]),
        ("NetworkPolicy", f"{base}-ray"),
        ("Job", f"{base}-accept-1"),
        ("Job", f"{base}-i1-generate-1"),
        ("Job", f"{base}-i1-train-1"),
        ("Job", f"{base}-i1-evaluate-1"),
    ]


def test_templates_and_files_of_the_run_need_not_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(
        "apiVersion: selfalign.dev/v1alpha1\nkind: SelfAlignmentRun\nmetadata: {name: far}\nspec:\n  recipe: sao\n"
        "  iterations: 2\n  model: {url: 's3://ml/m', chatTemplateUrl: 's3://ml/t'}\n"
        "  generation: {roles: [{name: judge, templateUrl: 's3://ml/judge'}]}\n"
        "  data: {personas: {url: 'pvc://p/x.jsonl'}}\n  storage: {url: 's3://ml/runs'}\n"
    )
    steps = [
        manifest["metadata"]["labels"].get("selfalign.dev/step")
        for manifest in yaml.safe_load_all(rendered(capsys, run))
    ]
    assert steps[2:] == ["accept"] + [f"i{k}-{kind}" for k in (1, 2) for kind in ("generate", "train", "evaluate")]


def test_a_run_that_cannot_be_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run.yaml"
    run.write_text((RUNS[0]).read_text().replace("pvc://selfalign/runs", "file:///gone"))
    assert main(["render", str(run)]) == 64
    assert "spec.storage.url" in capsys.readouterr().err


def test_a_configuration_that_cannot_be_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("images: {generate: g}\n")
    assert main(["render", str(RUNS[0]), "--config", str(config)]) == 64
    assert "config.yaml" in capsys.readouterr().err


def test_the_command_comes_by_its_entry_point() -> None:
    (found,) = (each for each in entry_points(group="selfalign.commands") if each.name == "render")
    assert found.load() is register
