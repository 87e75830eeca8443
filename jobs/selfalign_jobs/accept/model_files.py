"""What the listing of a model's folder says, and whether its small files are what they are called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfalign_api.errors import Problem
from selfalign_jobs.places.models import LOST, GivenModel

LFS = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = 1024  # a pointer is no longer
WHOLE = "write the URL of a folder that save_pretrained made"
JSON_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
# Weights that are no safetensors, and what becomes of them.
OTHER_WEIGHTS = {
    ".gguf": "the URL of the model that its GGUF files were made from: they are quantised, which training cannot take",
    ".bin": "that of a folder in which AutoModelForCausalLM.from_pretrained(THIS).save_pretrained(THAT) saved them again",
    ".pth": "that of the model in Hugging Face's form: these weights are in their author's own",
    ".pt": "that of the model in Hugging Face's form: these weights are in their author's own",
    ".h5": "that of a folder in which PyTorch saved them",
    ".msgpack": "that of a folder in which PyTorch saved them",
    ".onnx": "the URL of the model that was exported to ONNX",
}


def file_problems(model: GivenModel) -> Iterator[Problem]:
    """What is wrong with the files, before any weights are looked at."""

    def problem(message: str) -> Problem:
        return Problem(model.field, model.url, message)

    here = [name for name in model.names if "/" not in name]
    broken = [problem(message) for name in here if (message := _broken(model, name))]
    yield from broken
    if "adapter_config.json" in model.names:
        yield problem(f"has an adapter (adapter_config.json){_base(model)}; write the folder of the two merged")
    elif "config.json" not in model.names:
        yield problem(f"has no config.json; {_elsewhere(model)}")
    else:
        yield from map(problem, _lacking(model, here))
    if not broken:
        yield from (
            problem(message) for name in JSON_FILES if name in model.names and (message := _no_json(model, name))
        )


def _lacking(model: GivenModel, here: list[str]) -> Iterator[str]:
    if not any(name.endswith(".safetensors") for name in here):
        yield f"has no *.safetensors; {_instead(model)}"
    if not set(TOKENIZERS) & set(here):
        yield "has no tokenizer; save it there with tokenizer.save_pretrained"


def json_of(model: GivenModel, name: str) -> dict[str, Any]:
    """A JSON file of the folder; nothing where there is none. `file_problems` has said what is wrong with one."""
    file = model.folder / name
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if name in model.sizes else {}
    return found


def _broken(model: GivenModel, name: str) -> str | None:
    size = model.sizes[name]
    if size == LOST:
        return f"{name} is a link to a file that is not there; copy the folder with what it links to (cp -rL)"
    if size == 0 and name.endswith((".json", ".safetensors", ".jinja", ".model")):
        return f"{name} is empty; copy the folder again"
    if size < POINTER_BYTES and _start(model, name) == LFS:
        return (
            f"{name} is a pointer of Git LFS in place of the file; run git lfs pull there, or fetch it by hf download"
        )
    return None


def _start(model: GivenModel, name: str) -> bytes:
    here = model.folder / name  # as small files are
    return here.read_bytes()[: len(LFS)] if here.exists() else model.start(name, len(LFS))


def _no_json(model: GivenModel, name: str) -> str | None:
    file = model.folder / name
    try:
        found = json.loads(file.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        return f"{name} is no JSON ({error}); copy the folder again, or mend it"
    if not isinstance(found, dict):
        return f"{name} holds {_kind(found)} where an object must stand; {WHOLE}"
    return None


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _base(model: GivenModel) -> str:
    """What an adapter says that it belongs to."""
    try:
        base = json.loads((model.folder / "adapter_config.json").read_bytes()).get("base_model_name_or_path")
    except (ValueError, AttributeError, OSError):
        base = None
    return f" of {base}, and its base is not part of it" if base else ", and its base is not part of it"


def _elsewhere(model: GivenModel) -> str:
    """What to write where there is no config: a folder below, as training outputs and caches of the hub have them."""
    if any(name.endswith(".gguf") for name in model.names):
        return f"write {OTHER_WEIGHTS['.gguf']}"
    found = [*model.folder.glob("*/config.json"), *model.folder.glob("snapshots/*/config.json")]
    below = sorted(str(file.parent.relative_to(model.folder)) for file in found)
    return f"write the URL of the folder below it that has one: {', '.join(below[:5])}" if below else WHOLE


def _instead(model: GivenModel) -> str:
    """What to write where there are no weights as safetensors."""
    folders = sorted({str(Path(name).parent) for name in _files(model) if name.endswith(".safetensors")})
    if folders:
        return f"write the folder below it that has them: {', '.join(folders[:5])}"
    found = next((ending for ending in OTHER_WEIGHTS if any(name.endswith(ending) for name in model.names)), None)
    return f"write {OTHER_WEIGHTS[found]}" if found else WHOLE


def _files(model: GivenModel) -> Iterator[str]:
    """Names of files below the folder, those of folders in it as well; what is on a hub or in a bucket is listed so."""
    yield from model.names
    yield from (str(file.relative_to(model.folder)) for file in model.folder.glob("*/*.safetensors"))
