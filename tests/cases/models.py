"""Models: what a folder says is known before an engine starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cases.case import TINY, Case, Change, Room, with_model, with_spec

OK = ("would run here",)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234567\n"
TEMPLATE = (TINY / "model" / "chat_template.jinja").read_text()
WEIGHTS = (TINY / "model" / "model.safetensors").read_bytes()
SHARDS = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
PARTS = (  # as image-text models have it: the content is a list of parts
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def config(**values: Any) -> dict[str, Change]:
    """config.json with these values; None takes one away."""

    def change(found: dict[str, Any]) -> None:
        found.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del found[name]

    return {"config.json": change}


def named(*names: str) -> dict[str, Change | None]:
    """Chat templates by name in tokenizer_config.json, in the place of the one file."""
    templates = [{"name": name, "template": TEMPLATE} for name in names]
    return {
        "chat_template.jinja": None,
        "tokenizer_config.json": lambda found: found.update(chat_template=templates),
    }


def refused(name: str, changes: Mapping[str, Change | str | bytes | None], *says: str) -> Case:
    """A folder that is refused in these words."""
    return Case(name, with_model(changes), code=64, says=("spec.model.", *says))


def template(name: str, text: str, *says: str) -> Case:
    """A chat template that is refused in these words."""
    return refused(name, {"chat_template.jinja": text}, *says)


def spec(name: str, path: str, value: Any, *says: str, **more: Any) -> Case:
    """A value that is refused at its field in these words."""
    return Case(name, with_spec({path: value} | more), code=64, says=says)


def _above(folder: str) -> Callable[[Room], Path]:
    """A run that names the folder above the model's."""

    def write(room: Room) -> Path:
        room.model({}, f"outer/{folder}")
        return room.run({"model.url": room.url("outer")})

    return write


def _prompts_differ(room: Room) -> Iterator[str]:
    """That the engine has been shown what the user says."""
    files = [*room.out.glob("*/*/iter-1/i1-generate/parts/pairs/*.parquet")]
    found = {tuple(ids) for file in files for ids in pq.read_table(file)["prompt_ids"].to_pylist() if ids}
    if len(found) < 10:
        yield f"the pairs have {len(found)} distinct prompts"


FOLDERS = [
    Case("a folder as it is saved", with_model({})),
    refused("no config", {"config.json": None}, "has no config.json"),
    refused("a config that is no JSON", {"config.json": "{"}, "config.json"),
    refused("a config that is an array", {"config.json": "[]"}, "config.json"),
    refused("no weights", {"model.safetensors": None}, "has no *.safetensors"),
    refused("cloned without git-lfs", {"model.safetensors": POINTER}, "Git LFS", "git lfs pull"),
    refused("weights cut short", {"model.safetensors": WEIGHTS[:100_000]}, "model.safetensors"),
    refused("weights of no bytes", {"model.safetensors": b""}, "model.safetensors"),
    refused("a web page for weights", {"model.safetensors": b"<html>" + b"x" * 999}, "model.safetensors"),
    refused(
        "a shard that is not there",
        {
            "model.safetensors": None,
            "model-00001-of-00002.safetensors": WEIGHTS,
            "model.safetensors.index.json": SHARDS,
        },
        "model-00002-of-00002.safetensors",
    ),
    refused("weights of torch's", {"model.safetensors": None, "pytorch_model.bin": b"x"}, "safetensors"),
    refused("weights of llama.cpp's", {"model.safetensors": None, "model.gguf": b"GGUF"}, "safetensors"),
    refused(
        "an adapter without its base",
        {
            "model.safetensors": None,
            "config.json": None,
            "adapter_config.json": '{"peft_type": "LORA", "base_model_name_or_path": "org/base"}',
            "adapter_model.safetensors": WEIGHTS,
        },
        "adapter",
    ),
    Case(
        "the folder above", _above("model"), code=64, says=("spec.model.url", "the folder below it that has one: model")
    ),
    Case("a cache of the hub", _above("snapshots/4d7a"), code=64, says=("that has one: snapshots/4d7a",)),
    refused("an embedding of another width", config(hidden_size=4096), "width", "hidden_size 4096"),
    refused("layers that are not there", config(num_hidden_layers=99), "99 layers"),
    refused("fewer layers than weights", config(num_hidden_layers=1), "1 layers, so they would be left out"),
    spec(
        "the hub's page for a model",
        "model.url",
        "https://huggingface.co/google/gemma-2-9b-it",
        "did you mean hf://google/gemma-2-9b-it?",
    ),
    spec("a name of the hub alone", "model.url", "google/gemma-2-9b-it", "did you mean hf://google/gemma-2-9b-it?"),
]
CONFIGS = [
    refused("quantised weights", config(quantization_config={"quant_method": "gptq", "bits": 4}), "gptq"),
    refused("code of its own", config(auto_map={"AutoModelForCausalLM": "modeling_x.X"}), "remoteCode"),
    refused("an architecture that nobody has", config(architectures=["NobodyLM"], model_type="nobody"), "NobodyLM"),
    refused("an encoder", config(architectures=["BertForMaskedLM"], model_type="bert"), "BertForMaskedLM"),
    refused("an embedding smaller than the tokenizer", config(vocab_size=100), "100"),
    Case("a context below maxModelTokens", with_model(config(max_position_embeddings=128)), code=64, says=("128",)),
    spec("sequences beyond the context", "training.maxLengthTokens", 100_000, "spec.training.maxLengthTokens", "512"),
]
CHATS = [
    refused("a tokenizer that is no JSON", {"tokenizer.json": "{"}, "tokenizer"),
    refused("a tokenizer's config that is no JSON", {"tokenizer_config.json": "{"}, "tokenizer_config.json"),
    Case("named templates, one of them default", with_model(named("default", "tool_use")), says=OK),
    Case("content of parts", with_model({"chat_template.jinja": PARTS}), says=OK),
    template("a template that is not Jinja", "{% for message in messages %}", "chat template"),
    template("a template without the user's words", "{% for message in messages %}x{% endfor %}", "chat template"),
    template(
        "a template that says all twice",
        "{% for m in messages %}{{ m.content }} {{ m.content }}{% endfor %}",
        "more than once",
    ),
    template("a template that refuses", "{{ raise_exception('no users here') }}", "no users here"),
    Case(
        "content of parts, run",
        with_model({"chat_template.jinja": PARTS}),
        command="selfalign run {run} --out {out}",
        holds=_prompts_differ,
        engine=True,
    ),
]
MEANS = [
    spec("LoRA of the head", "training.lora", {"targetModules": ["lm_head"]}, "spec.training.lora.targetModules",
         "remove lm_head", **{"training.adapter": "lora"}),
    spec("LoRA of a module that is not there", "training.lora", {"targetModules": ["query_key_value"]},
         "spec.training.lora.targetModules", "query_key_value", **{"training.adapter": "lora"}),
    spec("an adapter that sits on another round's model", "output", {"url": "./out", "adapter": "Keep"},
         "spec.output.adapter", "write iteration: {start: initial}", **{"training.adapter": "lora", "iterations": 2}),
    spec("an adapter to keep of a training of all weights", "output", {"url": "./out", "adapter": "Keep"},
         "spec.output.adapter", "training.adapter: lora"),
    spec("float16 on a CPU", "training.precision", "float16", "spec.training.precision"),
    *[
        spec(name, "compute.generation", {"engineArgs": given}, "spec.compute.generation.engineArgs", says)
        for name, given, says in [
            ("an argument that no engine has", {"enforce_eagr": True}, "write enforce_eager"),
            ("an argument of the wrong kind", {"max_num_seqs": "many"}, "max_num_seqs"),
            ("an argument with its dashes", {"--enforce-eager": True}, "enforce"),
        ]
    ],
]  # fmt: skip

CASES = [*FOLDERS, *CONFIGS, *CHATS, *MEANS]
