"""Models: what a folder says is known when a run is accepted, before an engine starts; a table for each kind of trouble."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folders import TEMPLATE, TINY, Change, adds, config, looked_at, model_folder, refused

from cases.case import ON_CPU, REPOSITORY, Room
from selfalign_api.errors import ConfigError
from selfalign_api.load import load_run
from selfalign_jobs.accept.program import examine

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234567\n"
WEIGHTS = (TINY / "model.safetensors").read_bytes()
SIZE = struct.unpack("<Q", WEIGHTS[:8])[0]
HEADER: dict[str, Any] = json.loads(WEIGHTS[8 : 8 + SIZE])
DATA = WEIGHTS[8 + SIZE :]
Spec = dict[str, Any]


def weights(header: dict[str, Any], data: bytes = DATA, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def without(*names: str) -> dict[str, Any]:
    """The header without these tensors, their bytes being those of others."""
    spare = {f"spare.{i}": HEADER[name] | {"shape": [prod(HEADER[name]["shape"])]} for i, name in enumerate(names)}
    return {name: entry for name, entry in HEADER.items() if name not in names} | spare


def renamed(change: Callable[[str], str]) -> dict[str, Any]:
    return {change(name): entry for name, entry in HEADER.items()}


def shards(*, drop: tuple[str, ...] = (), moved: tuple[str, ...] = (), index: Any = None) -> dict[str, Change]:
    """The weights in two files with an index."""
    names = [name for name in HEADER if name != "__metadata__"]
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    made: dict[str, Change] = {"model.safetensors": None}
    for file, held in files.items():
        header, data = {}, b""
        for name in held:
            begin, end = HEADER[name]["data_offsets"]
            where = [len(data), len(data) + end - begin]
            header[f"spare.{name}" if name in moved else name] = HEADER[name] | {"data_offsets": where}
            data += DATA[begin:end]
        if file not in drop:
            made[file] = weights(header, data)
    weight_map = {name: file for file, held in files.items() for name in held}
    if index != "none":
        made["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}) if index is None else index
    return made


# --- what is served -------------------------------------------------------------------------------------------------------

SERVED: dict[str, dict[str, Change]] = {
    "as it is saved": {},
    "in several files": shards(),
    "README, pictures and a file of metrics beside": {"README.md": "x", "all_results.json": "[1]", "logo.png": b"\x89"},
    "a second copy of the weights in another form": {"pytorch_model.bin": b"x" * 2000, "model.gguf": b"GGUF" * 500},
    "code that transformers has itself": config(
        auto_map={"AutoConfig": "configuration_llama.LlamaConfig", "AutoModelForCausalLM": "m.LlamaForCausalLM"}
    ),
    "no architectures": {"config.json": lambda c: c.pop("architectures")},
    "a special token that nothing writes beyond the embedding": {
        "tokenizer.json": adds("<image>", special=True),
        "tokenizer_config.json": lambda c: c.update(image_token="<image>"),
    },
    "a config of a tool that quantises nothing": config(quantization_config=None),
}


@pytest.mark.parametrize("name", SERVED)
def test_a_model_that_is_whole_is_accepted(name: str, tmp_path: Path) -> None:
    assert looked_at(tmp_path, SERVED[name]).looked_at == ()


# --- what is refused ------------------------------------------------------------------------------------------------------

FILES: dict[str, tuple[dict[str, Change], str]] = {
    "LFS weights": ({"model.safetensors": LFS}, "model.safetensors is a pointer of Git LFS"),
    "LFS tokenizer": ({"tokenizer.json": LFS}, "tokenizer.json is a pointer of Git LFS"),
    "LFS config": ({"config.json": LFS}, "config.json is a pointer of Git LFS"),
    "LFS settings of the tokenizer": ({"tokenizer_config.json": LFS}, "tokenizer_config.json is a pointer of Git LFS"),
    "LFS template": ({"chat_template.jinja": LFS}, "chat_template.jinja is a pointer of Git LFS"),
    "LFS shard": (
        shards() | {"model-00002-of-00002.safetensors": LFS},
        "model-00002-of-00002.safetensors is a pointer of Git LFS",
    ),
    "config that is no JSON": (
        {"config.json": '{"model_type": "llama",}'},
        "config.json is no JSON (Expecting property",
    ),
    "config that is empty": ({"config.json": ""}, "config.json is empty"),
    "config that is a list": ({"config.json": "[]"}, "config.json holds a list where an object must stand"),
    "config that is a word": ({"config.json": '"llama"'}, "config.json holds text where an object must stand"),
    "config that is null": ({"config.json": "null"}, "config.json holds null where an object must stand"),
    "config in another encoding": ({"config.json": '{"a": "é"}'.encode("utf-16")}, "config.json is no JSON"),
    "generation config that is no JSON": ({"generation_config.json": "{"}, "generation_config.json is no JSON"),
    "tokenizer settings that are a list": ({"tokenizer_config.json": "[]"}, "tokenizer_config.json holds a list"),
    "tokenizer that is no tokenizer": (
        {"tokenizer.json": "{}"},
        "has a tokenizer that cannot be loaded: tokenizer.json",
    ),
    "tokenizer that is cut": (
        {"tokenizer.json": (TINY / "tokenizer.json").read_text()[:2000]},
        "has a tokenizer that cannot be loaded: tokenizer.json",
    ),
    "no tokenizer": (
        {"tokenizer.json": None, "tokenizer_config.json": None},
        "has no tokenizer; save it there with tokenizer.save_pretrained",
    ),
}
KINDS_OF_WEIGHTS: dict[str, tuple[dict[str, Change], str]] = {
    "bin only": (
        {"model.safetensors": None, "pytorch_model.bin": b"PK" * 2000},
        "has no *.safetensors; write that of a",
    ),
    "GGUF only": (
        {"model.safetensors": None, "model.Q4_K_M.gguf": b"GGUF" * 500},
        "has no *.safetensors; write the URL of the model that its GGUF files were made from",
    ),
    "GGUF alone": (
        {"model.safetensors": None, "config.json": None, "model.gguf": b"GGUF" * 500},
        "has no config.json; write the URL of the model that its GGUF files were made from",
    ),
    "pth only": ({"model.safetensors": None, "consolidated.00.pth": b"x" * 2000}, "has no *.safetensors"),
    "no weights": (
        {"model.safetensors": None},
        "has no *.safetensors; write the URL of a folder that save_pretrained made",
    ),
    "weights one folder down": (
        {"model.safetensors": None, "checkpoint-9/model.safetensors": WEIGHTS},
        "has no *.safetensors; write the folder below it that has them: checkpoint-9",
    ),
    "an adapter": (
        {
            "model.safetensors": None,
            "config.json": None,
            "adapter_config.json": '{"base_model_name_or_path": "org/base"}',
        },
        "has an adapter (adapter_config.json) of org/base, and its base is not part of it",
    ),
    "an adapter with weights of its own": (
        {"model.safetensors": None, "adapter_config.json": "{}", "adapter_model.safetensors": WEIGHTS},
        "has an adapter (adapter_config.json), and its base is not part of it; write the folder of the two merged",
    ),
    "an adapter beside a model": ({"adapter_config.json": "[]"}, "has an adapter (adapter_config.json)"),
    "weights under another name": (
        {"model.safetensors": None, "consolidated.safetensors": WEIGHTS},
        "has its weights as consolidated.safetensors, and they are looked for as model.safetensors; rename the file",
    ),
}
HEADERS: dict[str, tuple[dict[str, Change], str]] = {
    "cut": (
        {"model.safetensors": WEIGHTS[:-100]},
        f"has {len(WEIGHTS) - 100} bytes where its header says {len(WEIGHTS)}: it",
    ),
    "cut in its header": ({"model.safetensors": WEIGHTS[:2000]}, "ends within its header"),
    "longer": ({"model.safetensors": WEIGHTS + b"\0" * 8}, "more follows; copy it again"),
    "empty": ({"model.safetensors": b""}, "model.safetensors is empty"),
    "zeros": ({"model.safetensors": b"\0" * 4096}, "is no safetensors file (4096 bytes, and no header)"),
    "another format": ({"model.safetensors": b"PK\x03\x04" + b"pickle" * 400}, "is no safetensors file"),
    "a web page": ({"model.safetensors": "<!DOCTYPE html>" + "<p>" * 2000}, "is a web page, and no weights"),
    "a header that is no JSON": (
        {"model.safetensors": struct.pack("<Q", 4096) + b"x" * 8192},
        "has a header that is none of a safetensors file",
    ),
    "a header that is a list": (
        {"model.safetensors": struct.pack("<Q", 2) + b"[]" + b"x" * 2000},
        "has a header that is none of a safetensors file",
    ),
    "a shape that does not fit": (
        {"model.safetensors": weights(HEADER | {"model.norm.weight": HEADER["model.norm.weight"] | {"shape": [3]}})},
        "gives model.norm.weight",
    ),
}
SHARDS: dict[str, tuple[dict[str, Change], str]] = {
    "one is missing": (
        shards(drop=("model-00002-of-00002.safetensors",)),
        "has no model-00002-of-00002.safetensors, 1 of the 2 files that model.safetensors.index.json names",
    ),
    "both are missing": (
        shards(drop=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"))
        | {"other.safetensors": WEIGHTS},
        "2 of the 2 files",
    ),
    "no index": (shards(index="none"), "has 2 files of weights and no model.safetensors.index.json"),
    "a tensor is missing": (
        shards(moved=("model.norm.weight",)),
        "lacks model.norm.weight, which model.safetensors.index.json says is there",
    ),
    "an index that is no JSON": (shards(index="{"), "model.safetensors.index.json is no index of weights"),
    "an index that is a list": (shards(index="[]"), "model.safetensors.index.json is no index of weights"),
    "an index without a map": (shards(index='{"metadata": {}}'), "model.safetensors.index.json is no index of weights"),
    "one is cut": (
        shards() | {"model-00001-of-00002.safetensors": shards()["model-00001-of-00002.safetensors"][:-4]},  # type: ignore[index]
        "model-00001-of-00002.safetensors has",
    ),
}
CONTENT: dict[str, tuple[dict[str, Change], str]] = {
    "a larger vocabulary": (config(vocab_size=9999), "rows in its embedding, and config.json says vocab_size 9999"),
    "a smaller vocabulary": (config(vocab_size=9), "rows in its embedding, and config.json says vocab_size 9"),
    "more layers": (config(num_hidden_layers=99), "and config.json says 99 layers"),
    "fewer layers": (config(num_hidden_layers=1), "and config.json says 1 layers, so they would be left out"),
    "a layer less": (
        {"model.safetensors": weights(renamed(lambda name: name.replace("layers.0.", "layers.77.")))},
        "has no weights of layers 0",
    ),
    "a matrix less": (
        {"model.safetensors": weights(without("model.layers.1.mlp.up_proj.weight"))},
        "has no mlp.up_proj.weight in layer 1, which all its other layers have",
    ),
    "no embedding": (
        {"model.safetensors": weights(without("model.embed_tokens.weight"))},
        "has no embedding among its",
    ),
    "no head": (config(tie_word_embeddings=False), "has no output head (lm_head.weight)"),
}
QUANTISED: dict[str, tuple[dict[str, Change], str]] = {
    method: (config(quantization_config={"quant_method": method, "bits": 4}), f"is quantised ({method})")
    for method in ("gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4")
} | {
    "MLX": (config(quantization={"group_size": 64, "bits": 4}), "is quantised (MLX)"),
    "a tool's own file": ({"quantize_config.json": "{}"}, "is quantised (quantize_config.json stands in the folder)"),
    "inside the text's part": (
        config(text_config={"quantization_config": {"quant_method": "awq"}}),
        "is quantised (awq)",
    ),
    "by its numbers": (
        {
            "model.safetensors": weights(
                {
                    name: entry | ({"dtype": "I8", "shape": [4 * entry["shape"][0], *entry["shape"][1:]]})
                    if name.endswith("proj.weight") and entry["dtype"] == "F32"
                    else entry | ({"dtype": "F8_E4M3"})
                    if name.endswith("proj.weight")
                    else entry
                    for name, entry in HEADER.items()
                }
            )
        },
        "is quantised (its weights are",
    ),
}
ARCHITECTURES: dict[str, tuple[dict[str, Change], str]] = {
    "an encoder": (
        config(architectures=["BertModel"], model_type="bert"),
        "is a BertModel, which reads texts and writes none; write a causal language model",
    ),
    "a base without a head": (
        config(architectures=["LlamaModel"]),
        "is a LlamaModel, which reads texts and writes none",
    ),
    "a classifier": (
        config(architectures=["LlamaForSequenceClassification"]),
        "is a LlamaForSequenceClassification, which scores texts and writes none",
    ),
    "a reward model": (
        config(architectures=["Qwen2ForRewardModel"], model_type="qwen2"),
        "which scores texts and writes none",
    ),
    "an encoder and decoder": (
        config(architectures=["T5ForConditionalGeneration"], model_type="t5"),
        "is a T5ForConditionalGeneration, and vLLM",
    ),
    "one that sees": (
        config(architectures=["LlavaForConditionalGeneration"], model_type="llava"),
        "which training cannot load",
    ),
    "one that only looks": (
        config(architectures=["ViTForImageClassification"], model_type="vit"),
        "is a ViTForImageClassification, and vLLM",
    ),
    "one that the engine does not have": (
        config(architectures=["XGLMForCausalLM"], model_type="xglm"),
        "is a XGLMForCausalLM, an architecture that vLLM",
    ),
    "one that nobody has": (config(architectures=["TinyThinker"], model_type="tiny"), "an architecture that vLLM"),
    "one that training does not have": (
        config(architectures=["ExaoneForCausalLM"], model_type="exaone"),
        "is an ExaoneForCausalLM of type exaone, which training cannot load",
    ),
    "names that are one": (config(architectures="LlamaForCausalLM"), "has no architectures in its config.json"),
}
TOKENS: dict[str, tuple[dict[str, Change], str]] = {
    "a word beyond the embedding": ({"tokenizer.json": adds("<x>")}, "has a tokenizer with <x> at id"),
    "words beyond the embedding": (
        {"tokenizer.json": adds("<x>", "<y>")},
        "save the tokenizer that belongs to these weights",
    ),
    "a padding token beyond it": (
        {"tokenizer.json": adds("<pad>", special=True), "tokenizer_config.json": lambda c: c.update(pad_token="<pad>")},
        "has a tokenizer with <pad> at id",
    ),
    "a turn's token beyond it": (
        {"tokenizer.json": adds("<|turn|>", special=True), "chat_template.jinja": "<|turn|>" + TEMPLATE},
        "has a tokenizer with <|turn|> at id",
    ),
    "an end token beyond it": (
        {
            "tokenizer.json": adds("<|end|>", special=True),
            "tokenizer_config.json": lambda c: c.update(eos_token="<|end|>"),
        },
        "has a tokenizer with <|end|> at id",
    ),
    "an end token of the config beyond it": (config(eos_token_id=99999), "says eos_token_id 99999 in config.json"),
    "an end token of the generation config beyond it": (
        {"generation_config.json": '{"eos_token_id": [0, 4711]}'},
        "says eos_token_id 4711 in generation_config.json",
    ),
    "no end token": ({"tokenizer_config.json": lambda c: c.pop("eos_token")}, "the tokenizer has no end token"),
    "an end token that is none of its own": (
        {"tokenizer_config.json": lambda c: c.update(eos_token="</never>")},
        "the tokenizer has no end token",
    ),
}
TABLES = {
    "files": FILES,
    "kinds of weights": KINDS_OF_WEIGHTS,
    "headers": HEADERS,
    "shards": SHARDS,
    "content": CONTENT,
    "quantised": QUANTISED,
    "architectures": ARCHITECTURES,
    "tokens": TOKENS,
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in TABLES.items() for name in table])
def test_a_model_that_cannot_be_is_refused_in_words(kind: str, name: str, tmp_path: Path) -> None:
    changes, message = TABLES[kind][name]
    assert message in refused(tmp_path, changes)


@given(st.integers(0, len(WEIGHTS) - 1))
@settings(max_examples=15, deadline=None)
def test_weights_that_are_cut_anywhere_are_refused(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    tmp_path = tmp_path_factory.mktemp("cut")
    assert "model.safetensors" in refused(tmp_path, {"model.safetensors": WEIGHTS[:at]})


def test_the_models_own_url_is_what_is_named(tmp_path: Path) -> None:
    words = refused(tmp_path, {"model.safetensors": LFS})
    assert words.startswith(f"spec.model.url: {(tmp_path / 'model').as_uri()}: ")


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", {"model.safetensors": None})
    (folder / "model.safetensors").symlink_to("../../blobs/4d7a")
    run = Room(tmp_path / "room").run({"model.url": folder.as_uri()})
    with pytest.raises(ConfigError, match=r"model\.safetensors is a link to a file that is not there"):
        examine(load_run(run), ON_CPU, {"selfalign": str(REPOSITORY / "examples")}, tmp_path)


ODD = st.none() | st.booleans() | st.integers(-3, 600) | st.text(max_size=4) | st.lists(st.integers(0, 3), max_size=2)
KEYS = ("vocab_size", "num_hidden_layers", "max_position_embeddings", "rope_scaling", "architectures", "model_type",
        "auto_map", "quantization_config", "text_config", "eos_token_id", "tie_word_embeddings", "hidden_size")  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), ODD | st.dictionaries(st.sampled_from(["factor", "type", "x"]), ODD)))
@settings(max_examples=25, deadline=None)
def test_a_config_may_hold_anything(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    with suppress(ConfigError):
        looked_at(tmp_path_factory.mktemp("odd"), config(**values))


@given(st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), ODD, min_size=1))
@settings(max_examples=15, deadline=None)
def test_a_header_may_hold_anything(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    header = HEADER | {"model.norm.weight": HEADER["model.norm.weight"] | values}
    with suppress(ConfigError):
        looked_at(tmp_path_factory.mktemp("odd"), {"model.safetensors": weights(header)})


# --- code of its own ------------------------------------------------------------------------------------------------------

CODE: dict[str, dict[str, Change]] = {
    "of the model": config(auto_map={"AutoModelForCausalLM": "modeling_tiny.TinyForCausalLM"}),
    "of the config": config(auto_map={"AutoConfig": "configuration_tiny.TinyConfig"}),
    "of the tokenizer": {
        "tokenizer_config.json": lambda c: c.update(auto_map={"AutoTokenizer": ["tok.TinyTokenizer", None]})
    },
    "of the tokenizer, in the older form": {
        "tokenizer_config.json": lambda c: c.update(auto_map=["tok.Tiny", "tok.TinyFast"])
    },
    "of the tokenizer, named in the config": config(
        auto_map={"AutoTokenizer": ["tok.TinyTokenizer", "tok.TinyTokenizerFast"]}
    ),
    "under the name of another family": config(auto_map={"AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM"}),
}


@pytest.mark.parametrize("name", CODE)
def test_code_of_its_own_that_is_not_allowed_is_refused(name: str, tmp_path: Path) -> None:
    words = refused(tmp_path, CODE[name])
    assert words.startswith("spec.model.remoteCode: ")
    assert "names code of its own" in words and "remoteCode: Allow" in words


@pytest.mark.parametrize("name", CODE)
def test_code_that_is_allowed_and_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    assert "copy the folder whole" in refused(tmp_path, CODE[name], model__remoteCode="Allow")


def test_code_of_another_repository_is_refused(tmp_path: Path) -> None:
    changes = config(auto_map={"AutoModelForCausalLM": "org/code--modeling_tiny.TinyForCausalLM"})
    assert "which lies in another repository" in refused(tmp_path, changes, model__remoteCode="Allow")


TOKENIZER_CODE = """\
from transformers import PreTrainedTokenizerFast


class TinyTokenizer(PreTrainedTokenizerFast):
    ran = True
"""


def test_code_of_a_tokenizer_that_is_allowed_runs(tmp_path: Path) -> None:
    changes: dict[str, Change] = {
        "tok.py": TOKENIZER_CODE,
        "tokenizer_config.json": lambda c: c.update(auto_map={"AutoTokenizer": [None, "tok.TinyTokenizer"]}),
    }
    assert looked_at(tmp_path, changes, model__remoteCode="Allow").plan.models["policy"].remote_code
    changes["tok.py"] = "raise RuntimeError('it ran')"
    assert "it ran" in refused(tmp_path / "again", changes, model__remoteCode="Allow")
