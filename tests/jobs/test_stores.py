"""A run that lies nowhere on its machine: its model on the hub, its data in a bucket, its storage and its output too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from selfalign_jobs.places.store import Folder
from testbed.buckets import Buckets, amazon, google
from testbed.hub import hub

REPOSITORY = Path(__file__).parents[2]
TINY = REPOSITORY / "examples" / "tiny-model"
PERSONAS = 400
PLACES = {
    "pvc://selfalign/tiny-model/model": "hf://tiny/model",
    "pvc://selfalign/tiny-model/personas.jsonl": "SCHEME://sources/personas.jsonl",
    "pvc://selfalign/tiny-model/heldout.jsonl": "hf://datasets/tiny/heldout",
    "pvc://selfalign/runs": "SCHEME://storage/runs",
    "count: 6000": f"count: {PERSONAS}",
    "  storage:": '  output: {url: "SCHEME://outputs/model", datasetUrl: "SCHEME://outputs/pairs"}\n  storage:',
}
pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module", params=[amazon, google], ids=["s3", "gs"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    with request.param(tmp_path_factory.mktemp("buckets")) as server:
        for name in ("sources", "storage", "outputs"):
            server.bucket(name)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.environment.items():
                patch.setenv(name, value)
            Folder.open(f"{server.scheme}://sources").write("personas.jsonl", (TINY / "personas.jsonl").read_bytes())
        yield server


@pytest.fixture(scope="module")
def environment(server: Buckets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("hub")
    shutil.copytree(TINY / "model", folder / "root/models/tiny/model")
    (folder / "root/datasets/tiny/heldout").mkdir(parents=True)
    shutil.copy(TINY / "heldout.jsonl", folder / "root/datasets/tiny/heldout/train.jsonl")
    with hub(folder / "root") as endpoint:
        places = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache")}
        places["VLLM_CACHE_ROOT"] = str(
            Path.home() / ".cache" / "vllm"
        )  # what it knows of architectures: no part of a run
        state = {"XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        yield os.environ | server.environment | places | state


@pytest.fixture(scope="module")
def command(server: Buckets, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    text = (REPOSITORY / "examples" / "sao-tiny.yaml").read_text()
    for old, new in PLACES.items():
        assert old in text
        text = text.replace(old, new.replace("SCHEME", server.scheme))
    file = tmp_path_factory.mktemp("run") / "run.yaml"
    file.write_text(text)
    return [sys.executable, "-m", "selfalign_jobs.local.start", "run", str(file)]


@pytest.fixture(scope="module")
def finished(command: list[str], environment: dict[str, str], server: Buckets) -> Path:
    """The run's folder in the bucket, after a kill -9 of the runner while it generates, and a second start."""
    run = server.root / "storage/runs/default/sao-tiny"
    parts = run / "iter-1/i1-generate/parts"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while process.poll() is None and not any(parts.glob("**/*.parquet")):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def test_no_record_is_lost_or_doubled(finished: Path) -> None:
    folder = finished / "iter-1/i1-generate"
    manifest = json.loads((folder / "manifest.json").read_text())
    tables = [pq.read_table(folder / part) for part in manifest["tables"]["pairs"]["parts"]]
    sources = [source for table in tables for source in table["_source"].to_pylist()]
    assert sorted(set(sources)) == list(range(PERSONAS))
    assert manifest["result"]["records"]["pairs"] == PERSONAS


def test_the_model_is_published_with_its_card_and_lineage(finished: Path, server: Buckets) -> None:
    published, trained = server.root / "outputs/model", finished / "iter-1/i1-train/model"
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (published / name).read_bytes() == (trained / name).read_bytes()
    assert "## Evaluation" in (published / "README.md").read_text()
    assert "not finished" not in (published / "report.html").read_text()
    assert json.loads((published / "summary.json").read_text())["finished"]
    lineage = json.loads((published / "selfalign.json").read_text())
    assert lineage["models"]["policy"]["url"].startswith("hf://tiny/model@")
    assert [step["step"] for step in lineage["steps"]] == ["i1-generate", "i1-train", "i1-evaluate"]


def test_the_pairs_are_published_as_a_dataset_of_the_hub_is_read(
    finished: Path, server: Buckets, tmp_path: Path
) -> None:
    import datasets

    pairs = datasets.load_dataset(str(server.root / "outputs/pairs"), split="train", cache_dir=str(tmp_path))
    rows = json.loads((finished / "iter-1/i1-generate/manifest.json").read_text())["result"]["rows"]["pairs"]
    assert len(pairs) == rows > 0
    assert {"prompt", "chosen", "rejected"} <= set(pairs.column_names)


def test_a_published_folder_is_its_runs_alone(
    finished: Path, command: list[str], environment: dict[str, str], server: Buckets, tmp_path: Path
) -> None:
    """Another method's model under the same URL is refused by name, and what is there stays."""
    text = Path(command[-1]).read_text().replace("name: sao-tiny", "name: other").replace("seed: 0", "seed: 1")
    (tmp_path / "run.yaml").write_text(text)
    before = (server.root / "outputs/model/selfalign.json").read_bytes()
    done = subprocess.run([*command[:-1], str(tmp_path / "run.yaml")], env=environment, capture_output=True, text=True)
    assert done.returncode == 64
    assert "holds what default/sao-tiny has published; write a folder of its own" in done.stderr
    assert (server.root / "outputs/model/selfalign.json").read_bytes() == before
