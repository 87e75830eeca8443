"""Bad input: a clear error that says what to write, exit 64, nothing written, before an engine or Ray starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfalign_jobs.accept.owner import OWNER
from selfalign_jobs.local import cli

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "sao-tiny.yaml"

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    """A folder that stands for the claim `selfalign`: the tiny model and its data, to be spoilt."""
    source = REPOSITORY / "examples" / "tiny-model"
    target = tmp_path / "claim" / "tiny-model"
    shutil.copytree(source / "model", target / "model")
    for name in ("personas.jsonl", "heldout.jsonl"):
        shutil.copy(source / name, target / name)
    return tmp_path / "claim"


@pytest.fixture
def run_file(tmp_path: Path) -> Callable[[Edit], Path]:
    def write(edit: Edit) -> Path:
        document = yaml.safe_load(EXAMPLE.read_text())
        document["spec"]["training"]["learningRate"] = 1e-3  # PyYAML reads 1e-3 as text
        edit(document["spec"])
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(document))
        return file

    return write


def role(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in spec["generation"]["roles"] if r["name"] == name)
    return found


def setter(*path: str, value: Any) -> Edit:
    def edit(spec: dict[str, Any]) -> None:
        for key in path[:-1]:
            spec = spec.setdefault(key, {})
        spec[path[-1]] = value

    return edit


def role_setter(name: str, field: str, value: Any) -> Edit:
    return lambda spec: role(spec, name).update({field: value})


CASES: dict[str, tuple[Edit, str]] = {
    "unknown field": (setter("trainning", value={}), "spec.trainning"),
    "wrong type": (setter("iterations", value="two"), "spec.iterations"),
    "recipe that is not built": (
        setter("recipe", value="mypo"),
        "spec.recipe: mypo is not one of sao, pairs, spin, selm, synpo, fspo, almost, reversegen, pit",
    ),
    "loss that does not fit": (setter("training", "loss", value={"type": "sft"}), "spec.training.loss"),
    "gamma without simpo": (setter("training", "loss", value={"type": "dpo", "gamma": 1}), "gamma is SimPO's margin"),
    "missing file": (
        setter("data", "personas", "url", value="pvc://selfalign/nobody.jsonl"),
        "nobody.jsonl; write the URL",
    ),
    "missing column": (
        setter("data", "personas", "columns", value={"persona": "who"}),
        "personas.jsonl has no column who; it has persona",
    ),
    "column that nothing reads": (
        setter("data", "personas", "columns", value={"persona": "persona", "response": "x"}),
        "spec.data.personas.columns.response: x is not read here; spec.data.personas reads persona",
    ),
    "split of a file": (setter("data", "personas", "split", value="test"), "belongs to a whole dataset of the hub"),
    "more personas than exist": (setter("data", "personas", "count", value=50_000), "write a smaller count"),
    "no room for what is set apart": (
        lambda spec: (spec["data"]["personas"].update(count=14_000), spec.update(evaluation={"when": "EachIteration"})),
        "14500 rows are needed and there are 14400; write a smaller count or fewer iterations, or give a larger source; 500 "
        "rows are set apart for evaluation: with prompts of its own (evaluation.prompts), or with evaluation: {when: Never}, "
        "none are",
    ),
    "an override beyond the recipe's iterations": (
        lambda spec: (
            spec.pop("iterations", None),
            spec["training"].update(iterationOverrides=[{"fromIteration": 9, "beta": 1}]),
        ),
        "spec.training.iterationOverrides[9]: starts after the last iteration: sao makes 1 where spec.iterations is not written; "
        "write iterations: 9, or lower fromIteration",
    ),
    "too many iterations for the personas": (setter("iterations", value=9), "fewer iterations"),
    "unknown variable": (
        role_setter("writePrompt", "template", "{{ persona }} {{ mood }}"),
        "spec.generation.roles[writePrompt].template: mood is no variable of this template; use persona",
    ),
    "variable left out": (
        role_setter("judge", "template", "{{ prompt }} {{ first }}"),
        "the template leaves out second",
    ),
    "template that is not Jinja": (role_setter("judge", "template", "{{ prompt "), "is not Jinja"),
    "a verdict that is no Jinja": (setter("judge", "verdicts", value=["{{ first", "B"]), "is not Jinja"),
    "a verdict that leaves the sandbox": (
        setter("judge", "verdicts", value=["{{ first.__class__.__mro__ }}", "B"]),
        "spec.judge.verdicts: cannot be rendered",
    ),
    "equal verdicts": (setter("judge", "verdicts", value=["A", "A"]), "the two candidate verdicts are equal"),
    "greedy pair": (role_setter("respond", "temperature", 0), "equal at temperature 0; write a temperature above 0"),
    "answer beyond the context": (
        lambda spec: (role(spec, "respond").update(maxTokens=600), spec["generation"].pop("maxModelTokens")),  # type: ignore[func-returns-value]
        "is beyond the context of 512 tokens",
    ),
    "GPUs that are not there": (setter("compute", value={"device": "GPU", "training": {"gpusPerNode": 64}}), "--fit"),
    "prompt without room": (setter("training", "maxPromptTokens", value=256), "leaves no room for an answer"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_error_says_what_to_write(
    case: str, claim: Path, run_file: Callable[[Edit], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, message = CASES[case]
    out = tmp_path / "out"
    code = cli.main(["run", str(run_file(edit)), "--mount", f"selfalign={claim}", "--out", str(out)])
    assert code == 64
    assert message in capsys.readouterr().err
    assert not out.exists()


def spoil(claim: Path, what: str) -> None:
    folder = claim / "tiny-model"
    match what:
        case "no tokenizer":
            (folder / "model" / "tokenizer.json").unlink()
            (folder / "model" / "tokenizer_config.json").unlink()
        case "no chat template":
            (folder / "model" / "chat_template.jinja").unlink()
        case "no weights":
            (folder / "model" / "model.safetensors").unlink()
        case "empty personas":
            (folder / "personas.jsonl").write_text("")
        case "broken personas":
            (folder / "personas.jsonl").write_text('{"persona": "a"}\n{"persona": \n')
        case "blank persona":
            (folder / "personas.jsonl").write_text('{"persona": "a"}\n{"persona": " "}\n')


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no tokenizer", "has no tokenizer; save it there with tokenizer.save_pretrained"),
        ("no chat template", "has no chat template; write model.chatTemplateUrl"),
        ("no weights", "has no *.safetensors"),
        ("empty personas", "is empty; write the URL of a file with at least one row"),
        ("broken personas", "personas.jsonl, line 2: is no JSON"),
        ("blank persona", "1 of 2 rows have an empty persona"),
    ],
)
def test_a_spoilt_file_is_named(
    what: str, message: str, claim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(claim, what)
    out = tmp_path / "out"
    assert cli.main(["run", str(EXAMPLE), "--mount", f"selfalign={claim}", "--out", str(out)]) == 64
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_another_runs_folder_is_refused_naming_what_differs(
    claim: Path, run_file: Callable[[Edit], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    folder = out / "default" / "sao-tiny"
    folder.mkdir(parents=True)
    (folder / OWNER).write_text(
        json.dumps({"digest": "sha256:other", "version": "0", "method": {"training": {"loss": {"beta": 5}}}})
    )
    code = cli.main(["run", str(EXAMPLE), "--mount", f"selfalign={claim}", "--out", str(out)])
    error = capsys.readouterr().err
    assert code == 64
    assert "holds another run's artefacts, which differ in training.loss.beta" in error


def test_a_folder_that_cannot_be_made_is_named(claim: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even root makes a folder in /proc."""
    assert cli.main(["run", str(EXAMPLE), "--mount", f"selfalign={claim}", "--out", "/proc/selfalign"]) == 64
    assert "/proc/selfalign/default/sao-tiny cannot be written" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_named(claim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.write_text("")
    assert cli.main(["run", str(EXAMPLE), "--mount", f"selfalign={claim}", "--out", str(out)]) == 64
    assert "cannot be written" in capsys.readouterr().err
