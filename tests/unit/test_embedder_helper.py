"""A helper that embeds: what its folder must be, and how much of a prompt it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scorers import encoder

from cases.case import ON_CPU, REPOSITORY, Room
from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run
from selfalign_api.plan import EngineLoad, Generate
from selfalign_jobs.accept.program import examine
from selfalign_jobs.flow import Embed
from selfalign_jobs.generate.embed_render import EmbedRenderer


def embeds(folder: Path, tmp_path: Path, **spec: Any) -> EngineLoad:
    """The load of a run whose prompts are compared by this folder's vectors. Raises ConfigError."""
    near = {"method": "Embedding", "modelName": "encoder"}
    helper = {"name": "encoder", "kind": "Embedder", "url": folder.as_uri()}
    values = {"auxiliaryModels": [helper], "generation.filters": {"nearDuplicates": near}} | spec
    run = load_run(Room(tmp_path / "room").run(values))
    plan = examine(run, ON_CPU, {"selfalign": str(REPOSITORY / "examples")}, tmp_path).plan
    (load,) = (each for step in plan.steps if isinstance(step, Generate) for each in step.loads if each.task == "embed")
    return load


@pytest.mark.parametrize(
    ("file", "limit", "tokens"),
    [
        ("config.json", {}, 64),
        ("sentence_bert_config.json", {"max_seq_length": 32}, 32),
        ("tokenizer_config.json", {"model_max_length": 62}, 62),
        ("tokenizer_config.json", {"model_max_length": 10**30}, 64),
    ],
)
def test_an_embedder_has_a_context_of_its_own(file: str, limit: dict[str, int], tokens: int, tmp_path: Path) -> None:
    folder = encoder(tmp_path / "encoder")
    said = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(said | limit))
    assert embeds(folder, tmp_path).max_model_tokens == tokens


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", {"architectures": ["T5ForConditionalGeneration"]}, "does not serve as an embedder"),
        ("config.json", {"architectures": ["BertForSequenceClassification"]}, "does not serve as an embedder"),
        ("config.json", {"architectures": None}, "is a None, which vLLM"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("model.safetensors", None, "safetensors"),
    ],
)
def test_a_folder_that_gives_no_vectors_is_refused_at_its_own_field(
    file: str, content: dict[str, Any] | None, words: str, tmp_path: Path
) -> None:
    folder = encoder(tmp_path / "encoder")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | content))
    with pytest.raises(ConfigError, match=words) as refused:
        embeds(folder, tmp_path)
    assert {problem.path for problem in refused.value.problems} == {"spec.auxiliaryModels[encoder].url"}


def test_of_a_long_text_the_beginning_is_read_in_the_tokenizers_frame(tmp_path: Path) -> None:
    renderer = EmbedRenderer.of(encoder(tmp_path / "encoder"), 8)
    short, _ = renderer.render(Embed("embed", "cow"))
    long, _ = renderer.render(Embed("embed", "cow " * 50))
    assert len(long) == 8
    assert (short[0], short[-1]) == (long[0], long[-1])
