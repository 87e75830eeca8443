"""The headers of a model's safetensors files: what tensors there are, and whether the files hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

from selfalign_api.errors import ConfigError, Problem
from selfalign_jobs.accept.model_files import json_of
from selfalign_jobs.places.models import GivenModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FIRST_BYTES = 100_000  # holds most headers: one request where weights are elsewhere
HEADER_LIMIT = 100_000_000  # the format's own
AT_ONCE = 8  # headers that are read
BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
PLAIN = {"F64", "F32", "BF16", "F16"}
EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings", "embedding", "embeddings")
HEADS = ("lm_head", "embed_out", "output")
ROUTERS = ("gate", "router")
LAYER = re.compile(r"\.(?:layers|h|blocks|block)\.(\d+)\.")
SHOWN = 3


@dataclass(frozen=True)
class Tensor:
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return prod(self.shape)


Tensors = Mapping[str, Tensor]


class _Broken(Exception):
    """What is wrong with a file."""


def read_weights(model: GivenModel) -> dict[str, Tensor]:
    """Every tensor of the model, by name. Raises ConfigError with what is wrong with its files."""
    problems = [Problem(model.field, model.url, message) for message in _index_problems(model)]
    if problems:
        raise ConfigError(problems)
    index = None if SINGLE in model.sizes else _weight_map(model)
    files = [SINGLE] if index is None else sorted(set(index.values()))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        headers = dict(zip(files, pool.map(lambda name: _header_or_words(model, name), files), strict=True))
    words = [header for header in headers.values() if isinstance(header, str)]
    read = {name: header for name, header in headers.items() if not isinstance(header, str)}
    words += _missing(index or {}, read)
    if words:
        raise ConfigError([Problem(model.field, model.url, message) for message in words])
    return {name: tensor for header in read.values() for name, tensor in header.items()}


def weight_problems(model: GivenModel, tensors: Tensors, config: Mapping[str, Any]) -> Iterator[Problem]:
    """Where the tensors are not those of the config."""

    def problem(message: str) -> Problem:
        return Problem(model.field, model.url, message)

    rows, said = embedding_rows(tensors), config.get("vocab_size")
    if rows is None and not _as_an_embedding(tensors, said):
        yield problem(
            f"has no embedding among its {len(tensors)} tensors ({_some(tensors)}); write a model's whole folder"
        )
    elif rows is not None and isinstance(said, int) and rows != said:
        yield problem(
            f"has {rows} rows in its embedding, and config.json says vocab_size {said}; save the two together"
        )
    width, said = _width(tensors), config.get("hidden_size", config.get("n_embd"))
    if width is not None and isinstance(said, int) and width != said and "word_embed_proj_dim" not in config:
        yield problem(
            f"has an embedding of width {width}, and config.json says hidden_size {said}; save the two together"
        )
    layers, said = layers_of(tensors), config.get("num_hidden_layers", config.get("n_layer"))
    if isinstance(said, int) and layers and not set(range(said)) <= layers.keys():
        lacking = sorted(set(range(said)) - layers.keys())
        yield problem(f"has no weights of layers {_some(lacking)}, and config.json says {said} layers; copy it again")
    elif beyond := _beyond(tensors, layers, config):
        yield problem(
            f"has weights of layers {_some(beyond)}, and config.json says {said} layers, so they would be left out; "
            "save the two together"
        )
    elif layers:
        yield from map(problem, _uneven(layers))
    if config.get("tie_word_embeddings") is False and rows is not None and not _modules(tensors, HEADS):
        yield problem("has no output head (lm_head.weight), and config.json says tie_word_embeddings: false")


def embedding_rows(tensors: Tensors) -> int | None:
    """Tokens that the embedding has rows for."""
    found = [tensors[name].shape[0] for name in _modules(tensors, EMBEDDINGS) if len(tensors[name].shape) == 2]
    return max(found, default=None)


def _width(tensors: Tensors) -> int | None:
    """Numbers that the embedding has for a token."""
    largest = max(_modules(tensors, EMBEDDINGS), key=lambda name: tensors[name].size, default=None)
    return tensors[largest].shape[1] if largest and len(tensors[largest].shape) == 2 else None


def _as_an_embedding(tensors: Tensors, rows: object) -> bool:
    """Whether a matrix but the head, by whatever name, has so many rows."""
    heads = _modules(tensors, HEADS)
    return any(len(t.shape) == 2 and t.shape[0] == rows and name not in heads for name, t in tensors.items())


def parameters_of(tensors: Tensors) -> int:
    """Numbers in all tensors."""
    return sum(tensor.size for tensor in tensors.values())


def linear_modules(tensors: Tensors) -> set[str]:
    """Last names of the layers that an adapter may sit on: matrices of the layers, but for experts and their routers.

    Experts are saved one by one, and loaded as one tensor.
    """
    matrices = [name for name, tensor in tensors.items() if name.endswith(".weight") and len(tensor.shape) == 2]
    names = {name.split(".")[-2] for name in matrices if LAYER.search(name) and ".experts." not in name}
    return names - {*EMBEDDINGS, *HEADS, *ROUTERS}


def layers_of(tensors: Tensors) -> dict[int, set[str]]:
    """The tensors of each layer, by their names within it; of models with several stacks, of the deepest."""
    return max(_stacks(tensors).values(), key=len, default={})


def _stacks(tensors: Tensors) -> dict[str, dict[int, set[str]]]:
    stacks: dict[str, dict[int, set[str]]] = {}
    for name in tensors:
        if found := LAYER.search(name):
            layer = stacks.setdefault(name[: found.start()], {}).setdefault(int(found[1]), set())
            layer.add(name[found.end() :])
    return stacks


def _beyond(tensors: Tensors, layers: Iterable[int], config: Mapping[str, Any]) -> list[int]:
    """Layers that the config does not count: loading passes them over. Where several stacks stand, which is which is not said.

    Layers that foresee further tokens (DeepSeek's, GLM's) follow the others, and are counted apart.
    """
    said = config.get("num_hidden_layers", config.get("n_layer"))
    if not isinstance(said, int) or len(_stacks(tensors)) > 1:
        return []
    return sorted(number for number in layers if number >= said + (config.get("num_nextn_predict_layers") or 0))


def _uneven(layers: Mapping[int, set[str]]) -> Iterator[str]:
    """One layer that lacks what all others have, and has nothing in its place: of models whose layers are alike."""
    for number, names in layers.items():
        others = [other for place, other in layers.items() if place != number]
        if len(others) > 1 and names <= set.union(*others) and (lacking := set.intersection(*others) - names):
            yield f"has no {_some(sorted(lacking))} in layer {number}, which all its other layers have; copy it again"


def _modules(tensors: Tensors, names: tuple[str, ...]) -> list[str]:
    return [name for name in tensors if name.endswith(".weight") and name.split(".")[-2] in names]


def _index_problems(model: GivenModel) -> Iterator[str]:
    """What is wrong before a header is read."""
    if SINGLE in model.sizes:
        return
    here = [name for name in model.names if name.endswith(".safetensors") and "/" not in name]
    if INDEX not in model.sizes:
        if len(here) > 1:
            yield f"has {len(here)} files of weights and no {INDEX} that says what is where; copy it whole"
        else:
            yield f"has its weights as {here[0]}, and they are looked for as {SINGLE}; rename the file"
        return
    try:
        files = set(_weight_map(model).values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        yield f"{INDEX} is no index of weights ({error}); copy the folder again"
        return
    if lacking := sorted(files - set(here)):
        yield f"has no {_some(lacking)}, {len(lacking)} of the {len(files)} files that {INDEX} names; copy it again"


def _weight_map(model: GivenModel) -> dict[str, str]:
    found = json_of(model, INDEX)["weight_map"]
    return {str(name): str(file) for name, file in found.items()}


def _missing(index: Mapping[str, str], headers: Mapping[str, Tensors]) -> list[str]:
    lacking: dict[str, list[str]] = {}
    for name, file in index.items():
        if file in headers and name not in headers[file]:
            lacking.setdefault(file, []).append(name)
    return [
        f"{file} lacks {_some(names)}, which {INDEX} says is there; copy it again" for file, names in lacking.items()
    ]


def _header_or_words(model: GivenModel, name: str) -> dict[str, Tensor] | str:
    try:
        return _header(model, name)
    except _Broken as broken:
        return f"{name} {broken}; copy it again"


def _header(model: GivenModel, name: str) -> dict[str, Tensor]:
    size = model.sizes[name]
    start = model.start(name, FIRST_BYTES)
    if start.lstrip()[:1] == b"<":
        raise _Broken("is a web page, and no weights")
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or not 2 <= length <= HEADER_LIMIT:
        raise _Broken(f"is no safetensors file ({size} bytes, and no header)")
    if 8 + length > size:
        raise _Broken(f"ends within its header, which is {length} bytes long: it has {size} bytes")
    text = (start if 8 + length <= len(start) else model.start(name, 8 + length))[8 : 8 + length]
    try:
        said = json.loads(text)
        entries = {key: value for key, value in said.items() if key != "__metadata__"}
        tensors = {key: Tensor(str(value["dtype"]), tuple(map(int, value["shape"]))) for key, value in entries.items()}
        spans = {key: (int(value["data_offsets"][0]), int(value["data_offsets"][1])) for key, value in entries.items()}
        end = 8 + length + max((stop for _, stop in spans.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise _Broken(f"has a header that is none of a safetensors file ({type(error).__name__})") from error
    for key, (begin, stop) in spans.items():
        one = BYTES.get(tensors[key].dtype)
        if one is not None and stop - begin != one * tensors[key].size:
            raise _Broken(f"gives {key} {stop - begin} bytes, and its shape takes {one * tensors[key].size}")
    if size != end:
        raise _Broken(f"has {size} bytes where its header says {end}: {'it was cut' if size < end else 'more follows'}")
    return tensors


def _some(names: Iterable[object]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
