"""The step `accept`: its summary, its reasons, and that it comes to the same when it is done again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfalign_api.errors import ConfigError
from selfalign_api.life import Tracking
from selfalign_api.load import as_json, load_run
from selfalign_api.outcome import unpack_steps
from selfalign_api.run_file import GenerationMeans, Means, RunFile, TrainingMeans
from selfalign_jobs import entry
from selfalign_jobs.accept import program as accepting
from selfalign_jobs.accept.owner import OWNER
from selfalign_jobs.accept.program import accept
from selfalign_jobs.places.store import PLAN_FILE, Folder, read_plan
from selfalign_jobs.tracking import mlflow

REPOSITORY = Path(__file__).parents[2]
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(name="claim")
def _claim(tmp_path: Path) -> Path:
    """A folder that stands for the claim `selfalign`, to be spoilt."""
    source, target = REPOSITORY / "examples" / "tiny-model", tmp_path / "claim" / "tiny-model"
    shutil.copytree(source / "model", target / "model")
    for name in ("personas.jsonl", "heldout.jsonl"):
        shutil.copy(source / name, target / name)
    return tmp_path / "claim"


def run_file(claim: Path, edit: Edit = lambda run: None, device: Any = "CPU") -> RunFile:
    run = as_json(load_run(REPOSITORY / "examples" / "sao-tiny.yaml"))
    edit(run)
    engines = GenerationMeans(device=device)
    means = Means(generation=engines, training=TrainingMeans(device=device), evaluation=engines)
    storage = (claim / "runs" / "default" / "sao-tiny").as_uri()
    return RunFile(run=run, storage=storage, mounts={"selfalign": str(claim)}, means=means)


def enter(file: RunFile, folder: Path) -> tuple[int, dict[str, Any]]:
    """The exit code and the termination message of `--step accept`."""
    (folder / "run.json").write_text(file.model_dump_json())
    arguments = [str(folder / "run.json"), "--step", "accept", "--attempt", "2"]
    code = entry.main([*arguments, "--termination-message", str(folder / "message")])
    return code, json.loads((folder / "message").read_text())


def test_it_writes_the_plan_and_says_what_will_run(claim: Path, tmp_path: Path) -> None:
    file = run_file(claim)
    code, summary = enter(file, tmp_path)
    assert code == 0
    plan = read_plan(Folder.open(file.storage))
    assert [[s.name, s.kind, s.iteration] for s in plan.steps] == unpack_steps(summary["steps"])
    assert {key: summary[key] for key in ("step", "attempt", "digest", "version", "storage", "model")} == {
        "step": "accept",
        "attempt": 2,
        "digest": plan.digest,
        "version": plan.version,
        "storage": file.storage,
        "model": {"url": "pvc://selfalign/tiny-model/model", "revision": plan.models["policy"].digest},
    }


def test_what_deserves_a_second_look_is_said_before_anything_is_paid_for(claim: Path, tmp_path: Path) -> None:
    code, summary = enter(run_file(claim, spec("training", "globalBatchSize", value=50_000)), tmp_path)
    assert code == 0
    assert "globalBatchSize 50,000 is more than the" in summary["result"]["notes"][0]
    assert unpack_steps(summary["steps"])


def test_done_again_it_comes_to_the_same(claim: Path, tmp_path: Path) -> None:
    file = run_file(claim)
    first = enter(file, tmp_path)
    plan = Folder.open(file.storage).read(PLAN_FILE)
    assert enter(file, tmp_path) == first
    assert Folder.open(file.storage).read(PLAN_FILE) == plan


def test_compute_does_not_matter(claim: Path) -> None:
    """It may change while a run is suspended, and is not asked for again."""
    plain = accept(run_file(claim), claim)
    wrong = {"device": "GPU", "training": {"gpusPerNode": 64, "offload": "OptimizerAndParameters", "zeroStage": 1}}
    assert accept(run_file(claim, lambda run: run["spec"].update(compute=wrong)), claim).plan == plain.plan


def test_the_device_of_the_means_decides_the_precision(claim: Path) -> None:
    def unset(run: dict[str, Any]) -> None:
        run["spec"]["generation"].pop("precision", None)
        run["spec"]["training"].pop("precision", None)

    exact = '"precision":"float32"'
    assert exact in accept(run_file(claim, unset), claim).plan.model_dump_json()
    shutil.rmtree(claim / "runs")
    assert exact not in accept(run_file(claim, unset, device="GPU"), claim).plan.model_dump_json()


def test_a_step_with_fewer_examples_than_ranks_is_refused_and_nothing_is_written(claim: Path) -> None:
    file = run_file(claim, lambda run: run["spec"]["training"].update(globalBatchSize=3))
    training = TrainingMeans(device="CPU", nodes=4)
    with pytest.raises(ConfigError, match=r"globalBatchSize: 3 is less than the ranks \(.*: 4\).* write at least 4"):
        accept(file.model_copy(update={"means": file.means.model_copy(update={"training": training})}), claim)
    assert not (claim / "runs").exists()


def spec(*path: str, value: Any) -> Edit:
    def edit(run: dict[str, Any]) -> None:
        place = run["spec"]
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value

    return edit


REFUSED: dict[str, tuple[Edit, str]] = {
    "unknown field": (spec("trainning", value={}), "InvalidSpec"),
    "recipe that is not built": (spec("recipe", value="spin"), "InvalidSpec"),
    "equal verdicts": (spec("judge", "verdicts", value=["A", "A"]), "InvalidSpec"),
    "too many personas": (spec("data", "personas", "count", value=50_000), "InvalidSpec"),
    "no model there": (spec("model", "url", value="pvc://selfalign/nothing"), "ModelNotFound"),
    "a folder that is no model": (spec("model", "url", value="pvc://selfalign/tiny-model"), "ModelNotFound"),
    "no data there": (spec("data", "personas", "url", value="pvc://selfalign/nobody.jsonl"), "DataNotFound"),
    "no such column": (spec("data", "personas", "columns", value={"persona": "who"}), "DataNotFound"),
    "data of a claim that is not mounted": (spec("data", "personas", "url", value="pvc://other/a.txt"), "DataNotFound"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_has_its_reason_and_nothing_is_written(case: str, claim: Path, tmp_path: Path) -> None:
    edit, reason = REFUSED[case]
    code, message = enter(run_file(claim, edit), tmp_path)
    assert (code, message["reason"]) == (64, reason), message
    assert not (claim / "runs").exists()


def test_a_tracking_server_that_is_required_and_does_not_answer_refuses_the_run_before_its_folder_is_claimed(
    claim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "PAUSE_SECONDS", 0.0)
    file, nobody = run_file(claim), Tracking(type="MLflow", url="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"spec\.tracking: http://127\.0\.0\.1:9 does not answer .* required: false"):
        accept(file, claim, nobody.model_copy(update={"required": True}))
    assert not Folder.open(file.storage).files()
    assert any("Tracking is behind: http://127.0.0.1:9" in note for note in accept(file, claim, nobody).notes)


def test_another_runs_folder_is_storage_in_use(claim: Path, tmp_path: Path) -> None:
    file = run_file(claim)
    owner = {"digest": "sha256:other", "version": "0", "method": {"seed": 5}}
    Folder.open(file.storage).write(OWNER, json.dumps(owner).encode())
    code, message = enter(file, tmp_path)
    assert (code, message["reason"]) == (64, "StorageInUse")
    assert not Folder.open(file.storage).exists(PLAN_FILE)


def test_a_storage_that_cannot_be_written_is_refused_and_one_that_is_full_is_not(
    claim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = run_file(claim)
    assert enter(file.model_copy(update={"storage": "file:///proc/selfalign"}), tmp_path)[0] == 64

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(accepting.tempfile, "NamedTemporaryFile", full)
    assert enter(file, tmp_path)[0] == 75


def test_accepting_imports_nothing_heavy(claim: Path) -> None:
    """`validate` takes less than two seconds; torch alone would take more, and on a laptop it may not be there."""
    code = (
        "import sys; from selfalign_jobs.local import cli; code = cli.main(sys.argv[1:]); "
        "print(code, *sorted({'torch', 'transformers', 'vllm', 'ray', 'peft'} & set(sys.modules)))"
    )
    command = ["validate", str(REPOSITORY / "examples" / "sao-tiny.yaml"), "--mount", f"selfalign={claim}"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
