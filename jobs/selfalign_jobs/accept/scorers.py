"""Models that write nothing: architecture, head, labels and template of what vLLM pools; a pair ranker's tokens and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.sources import ModelSource
from selfalign_jobs.accept.architecture import known, text_config
from selfalign_jobs.accept.model_files import json_of
from selfalign_jobs.accept.room import model_context
from selfalign_jobs.accept.weights import Tensors
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.classifier import labels_of, reading_of
from selfalign_jobs.generate.pair_ranker import ranker_of, shape_problems
from selfalign_jobs.generate.score_render import Conversations
from selfalign_jobs.generate.tokenizer import read_tokenizer
from selfalign_jobs.places.models import GivenModel

ENDING = "ForSequenceClassification"
HEAD = re.compile(r"(^|\.)(score|classifier|classifier\.(out_proj|dense)|classification_head\.out_proj)\.weight$")
WRITE = {
    "RewardModel": f"write a model …{ENDING} with one output, as TRL's RewardTrainer and AutoModelForSequenceClassification "
    "save it",
    "Classifier": f"write a model …{ENDING} with an output for each label, or kind: RewardModel for one with one output",
}


def head_problems(
    model: GivenModel, given: ModelSource, config: Mapping[str, Any], tensors: Tensors
) -> Iterator[Problem]:
    """An architecture that gives no score of a whole answer, and a head that is not of a reward model's or the labels' width."""

    def problem(message: str) -> Problem:
        return Problem(model.field, model.url, message)

    name, write = str((config.get("architectures") or ["None"])[0]), WRITE[given.kind]
    if not _is_served(name):
        yield problem(f"is a {name}, {_why_not(name)}; {write}")
        return
    heads = {key: tensor.shape for key, tensor in tensors.items() if HEAD.search(key)}
    if not heads:
        yield problem(f"has no scoring head (score.weight) among its {len(tensors)} tensors; {write}")
        return
    (key, (outputs, *_)), labels = list(heads.items())[-1], labels_of(config)
    if given.kind == "RewardModel" and outputs != 1:
        yield problem(f"gives {outputs} numbers of an answer ({key}), and a RewardModel gives one; {write}")
    elif given.kind == "RewardModel" and len(labels) != 1:
        yield problem(f"has one output ({key}), and config.json says {len(labels)} labels; write its num_labels: 1")
    elif given.kind == "Classifier" and (outputs == 1 or outputs != len(labels)):
        yield problem(
            f"gives {outputs} numbers of an answer ({key}), and config.json names {len(labels)} labels; {write}"
        )
    elif given.kind == "Classifier" and given.label not in labels:
        message = f"is none of the model's labels; write one of: {', '.join(labels)}"
        yield Problem(model.field.replace(".url", ".label"), given.label, message)


def _is_served(name: str) -> bool:
    """Whether vLLM has it, by name or as a causal model with one linear layer in the place of its head."""
    return name.endswith(ENDING) and (
        name in known()["scores"] or name.replace(ENDING, "ForCausalLM") in known()["generates"]
    )


def _why_not(name: str) -> str:
    if name.endswith(ENDING):
        return f"which vLLM {known()['vllm']} does not serve"
    if name.endswith(("RewardModel", "ForRewardModeling")):
        return "whose name vLLM loads as an embedder, or as a score of every token"
    return "which gives no score of an answer"


def embedder_problems(model: GivenModel, config: Mapping[str, Any]) -> Iterator[Problem]:
    """An architecture that gives no vectors, or a folder without a tokenizer.json."""
    name = str((config.get("architectures") or ["None"])[0])
    if name not in {*known()["embeds"], *known()["generates"]}:
        message = (
            f"is a {name}, which vLLM {known()['vllm']} does not serve as an embedder; write a model such as "
            "BAAI/bge-small-en-v1.5"
        )
        yield Problem(model.field, model.url, message)
    if "tokenizer.json" not in model.names:
        yield Problem(model.field, model.url, "has no tokenizer.json; save its fast tokenizer beside the weights")


def embedder_context(model: GivenModel) -> int | None:
    """Tokens that it reads at the most: its positions, or fewer, as sentence-transformers or its tokenizer says."""
    limits = (
        json_of(model, "sentence_bert_config.json").get("max_seq_length"),
        json_of(model, "tokenizer_config.json").get("model_max_length"),  # RoBERTa has two positions to spare
        model_context(text_config(json_of(model, "config.json"))),
    )
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def conversation_tokens(model: GivenModel, given: ModelSource) -> int | list[Problem]:
    """Tokens of the shortest conversation by a scoring model's own template, or why there is none."""
    try:
        if given.kind == "Classifier":
            return len(reading_of(model.folder, given).ids("word", "word"))
        chat = ModelChat(read_tokenizer(model.folder, remote_code=given.remote_code), field=model.field)
        return len(Conversations(chat).ids("word", "word"))
    except ConfigError as error:
        return [Problem(model.field, model.url, problem.message) for problem in error.problems]
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        message = f"has a chat template that refuses a finished conversation: {error or type(error).__name__}"
        return [Problem(model.field, model.url, message)]


def ranker_problems(model: GivenModel, tensors: Tensors) -> Iterator[Problem]:
    """A folder without the special tokens of a pair ranker, or whose tensors do not fit."""
    try:
        config, _ = ranker_of(model.folder, model.field)
    except ConfigError as error:
        yield from (Problem(problem.path, model.url, problem.message) for problem in error.problems)
        return
    for message in shape_problems(config, {name: tensor.shape for name, tensor in tensors.items()}):
        yield Problem(model.field, model.url, f"{message}; write the folder of a model as llm-blender/PairRM-hf")
