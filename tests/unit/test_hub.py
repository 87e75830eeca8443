"""The hub: pinned when a run is accepted, refused in words that say what to write. The hub is ours (testbed/hub.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from huggingface_hub import constants

from cases.case import ON_CPU
from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run
from selfalign_api.plan import Plan
from selfalign_jobs.accept.program import examine
from selfalign_jobs.places.sources import read_source
from testbed.hub import _Repository, hub

REPOSITORY = Path(__file__).parents[2]
TINY = REPOSITORY / "examples" / "tiny-model"
TOKEN = "hf_secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The hub's folder: a model, a dataset of two files, one of a single split."""
    root = tmp_path / "hub"
    for org in ("tiny", "private", "gated"):
        shutil.copytree(TINY / "model", root / "models" / org / "model")
    (root / "models/tiny/model/original").mkdir()
    (root / "models/tiny/model/original/weights.safetensors").write_bytes(b"not wanted")
    for name in ("personas.jsonl", "heldout.jsonl"):
        target = root / "datasets/tiny/files" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TINY / name, target)
    (root / "datasets/tiny/people").mkdir()
    shutil.copy(TINY / "personas.jsonl", root / "datasets/tiny/people/train.jsonl")
    rows = [json.loads(line) for line in (TINY / "heldout.jsonl").read_text().splitlines()]
    (root / "datasets/tiny/files/heldout.json").write_text(json.dumps(rows))
    return root


@pytest.fixture
def sent() -> dict[str, int]:
    """Bytes that the hub sent, by path."""
    return {}


@pytest.fixture(autouse=True)
def endpoint(root: Path, sent: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub(root, TOKEN, sent) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-of-ours"))
        yield url


def accepted(tmp_path: Path, model: str = "hf://tiny/model", **personas: object) -> Plan:
    """The plan of the example with this model and these personas."""
    document = yaml.safe_load((REPOSITORY / "examples/sao-tiny.yaml").read_text())
    spec = document["spec"]
    spec["training"]["learningRate"] = 3e-4  # PyYAML reads 3e-4 as text
    spec["model"]["url"] = model
    spec["data"]["personas"] = {"url": "hf://datasets/tiny/people", "count": 100} | personas
    spec["evaluation"]["prompts"]["url"] = "hf://datasets/tiny/files/heldout.json"
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(document))
    return examine(load_run(file), ON_CPU, {}, tmp_path).plan


def test_a_model_is_pinned_to_the_commit_of_its_branch(tmp_path: Path) -> None:
    model = accepted(tmp_path, "hf://tiny/model@main").models["policy"]
    commit = model.digest.removeprefix("commit:")
    assert len(commit) == 40
    assert model.url == f"hf://tiny/model@{commit}"


def test_a_changed_repository_is_another_model(tmp_path: Path, root: Path) -> None:
    before = accepted(tmp_path)
    (root / "models/tiny/model/config.json").write_bytes((TINY / "model/config.json").read_bytes() + b"\n")
    after = accepted(tmp_path)
    assert before.digest != after.digest


def test_accepting_fetches_no_weights(tmp_path: Path) -> None:
    accepted(tmp_path)
    fetched = {file.name for file in (tmp_path / "cache").rglob("*")}
    assert "tokenizer.json" in fetched
    assert "model.safetensors" not in fetched


def test_of_weights_accepting_reads_the_headers(tmp_path: Path, sent: dict[str, int]) -> None:
    accepted(tmp_path)
    read = {path: count for path, count in sent.items() if path.endswith(".safetensors")}
    assert [path.split("/")[-1] for path in read] == ["model.safetensors"]  # no second copy in a folder below
    assert 0 < sum(read.values()) <= 100_000 < (TINY / "model/model.safetensors").stat().st_size


def test_a_hub_that_tells_no_sizes_is_asked_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = _Repository.info

    def untold(repository: _Repository) -> Any:
        info: Any = told(repository)
        return info | {"siblings": [{"rfilename": file["rfilename"]} for file in info["siblings"]]}

    monkeypatch.setattr(_Repository, "info", untold)
    assert accepted(tmp_path).models["policy"].digest


def test_weights_that_are_cut_on_the_hub_are_refused(tmp_path: Path, root: Path) -> None:
    file = root / "models/tiny/model/model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ConfigError, match=r"model\.safetensors has \d+ bytes where its header says \d+: it was cut"):
        accepted(tmp_path)


def test_whole_datasets_and_single_files_are_pinned(tmp_path: Path) -> None:
    sources = accepted(tmp_path).sources
    commit = sources["personas"].digest.removeprefix("commit:")
    assert sources["personas"].url == f"hf://datasets/tiny/people@{commit}"
    assert str(sources["evaluation"].url).endswith("/heldout.json")
    assert sources["evaluation"].digest.endswith("/heldout.json")


@pytest.mark.parametrize(
    ("files", "split"),
    [
        ({"train.csv": "persona,id\n007,1\nNA,2\n0.50,3\n"}, "train"),
        ({"train.json": '{"persona": "007", "id": 1}\n{"persona": "NA", "id": "x"}\n{"persona": 0.50}\n'}, "train"),
        ({"train.json": '[{"persona": "007"}, {"persona": "NA"}, {"persona": 0.50}]'}, "train"),
        ({"train-0.csv": "persona\n007\n", "train-1.csv": "id,persona\n1,NA\n2,0.50\n"}, "train"),
        ({"data/test.txt": "007\nNA\n0.50\n", "data/train.txt": "x\n"}, "test"),
    ],
    ids=["csv", "lines", "array", "parts", "text"],
)
def test_a_datasets_files_are_read_as_they_stand(tmp_path: Path, root: Path, files: dict[str, str], split: str) -> None:
    for name, content in files.items():
        (root / "datasets/tiny/spelled" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "datasets/tiny/spelled" / name).write_text(content)
    plan = accepted(tmp_path, url="hf://datasets/tiny/spelled", split=split, count=1)
    read = read_source("personas", plan.sources["personas"], {})
    assert read["persona"].to_pylist() == ["007", "NA", "0.50"]


def test_what_is_no_plain_table_is_read_by_datasets(tmp_path: Path, root: Path) -> None:
    """Options of the card, and a part of a split."""
    (root / "datasets/tiny/spelled").mkdir()
    (root / "datasets/tiny/spelled/train.csv").write_text("persona;id\na;1\nb, c;2\n")
    card = '---\nconfigs:\n- config_name: default\n  data_files: train.csv\n  sep: ";"\n---\n'
    (root / "datasets/tiny/spelled/README.md").write_text(card)
    plan = accepted(tmp_path, url="hf://datasets/tiny/spelled", count=1)
    assert read_source("personas", plan.sources["personas"], {})["persona"].to_pylist() == ["a", "b, c"]
    part = accepted(tmp_path, split="train[:2]", count=1)
    assert read_source("personas", part.sources["personas"], {}).num_rows == 2


def test_a_token_opens_a_private_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"the hub shows no model private/model to us; .* give a token \(HF_TOKEN"):
        accepted(tmp_path, "hf://private/model")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert accepted(tmp_path, "hf://private/model").models["policy"].url.startswith("hf://private/model@")


@pytest.mark.parametrize(
    ("model", "personas", "message"),
    [
        ("hf://tiny/nobody", {}, "the hub shows no model tiny/nobody"),
        ("hf://gated/model", {}, "gated/model is open to those who accepted its terms"),
        ("hf://tiny/model@dev", {}, "tiny/model has no revision dev; write a branch, a tag or a commit"),
        ("hf://tiny/model", {"url": "hf://datasets/tiny/nobody"}, "the hub shows no dataset tiny/nobody"),
        ("hf://tiny/model", {"url": "hf://datasets/tiny/files/x.jsonl"}, "tiny/files has no such file"),
        ("hf://tiny/model", {"split": "test"}, 'cannot be read so: Unknown split "test"'),
        ("hf://tiny/model", {"subset": "other"}, "cannot be read so: BuilderConfig 'other' not found"),
        (
            "hf://tiny/model",
            {"url": "hf://datasets/tiny/files/personas.jsonl", "split": "train"},
            "belongs to a whole dataset of the hub, and this is a file; remove it",
        ),
    ],
)
def test_what_the_hub_does_not_have_is_said(
    tmp_path: Path, model: str, personas: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        accepted(tmp_path, model, **personas)
    assert message in str(refused.value)


def test_a_hub_that_does_not_answer_is_no_mistake_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="the hub cannot be reached now"):
        accepted(tmp_path)
