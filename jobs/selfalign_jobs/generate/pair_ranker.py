"""What a pair ranker of PairRM's form reads: its config, and a prompt with two answers as it takes them (arXiv 2306.02561)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign_api.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

PROMPT_TOKENS, ALL_TOKENS = 1224, 2048  # as it was trained: an answer has half of what the prompt leaves
PREFIXES = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")
HEAD = ("head_layer.1", "head_layer.4")  # after the vectors of prompt and answer: tanh, then one output a task


@dataclass(frozen=True)
class RankerConfig:
    """What its config.json says beside DeBERTa's own fields."""

    prefixes: tuple[int, int, int]  # ids before the prompt, the first and the second answer
    hidden_size: int
    tasks: int

    @classmethod
    def of(cls, model: Path) -> RankerConfig:
        """Raises ValueError for a folder that is no pair ranker."""
        said: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
        if said.get("model_type") != "deberta-v2":
            raise ValueError(f"is of type {said.get('model_type')}, and a PairRanker is a deberta-v2, as PairRM-hf")
        if lacking := [name for name in PREFIXES if not isinstance(said.get(name), int)]:
            raise ValueError(f"has no {', '.join(lacking)} in its config.json, which PairRM-hf has")
        first, second, third = (said[name] for name in PREFIXES)
        return cls((first, second, third), said["hidden_size"], said.get("n_tasks", 1))


class RankerTokens:
    """Its tokenizer: prompt and answers, each between CLS and SEP with its own token first, one after another."""

    def __init__(self, backend: Backend, config: RankerConfig, cls: str, sep: str) -> None:
        """Raises ValueError for a tokenizer without the tokens that the config names."""
        self._backend = backend
        backend.no_truncation()
        backend.no_padding()
        begin, end = (backend.token_to_id(token) for token in (cls, sep))
        if begin is None or end is None:
            raise ValueError(f"has a tokenizer without {cls} or {sep}")
        tokens = [backend.id_to_token(id) for id in config.prefixes]
        if None in tokens:
            raise ValueError(f"has a tokenizer without a token of id {config.prefixes[tokens.index(None)]}")
        self._cls, self._sep = begin, end
        self._prefixes = [str(token) for token in tokens]
        self.prefixes = config.prefixes
        for id, token in zip(config.prefixes, self._prefixes, strict=True):
            if id not in backend.get_added_tokens_decoder() or self._ids(token) != [id]:
                raise ValueError(f"has a tokenizer in which {token} (id {id}) is no special token")
        self._taken = (sep, cls, *self._prefixes)

    def pair(self, prompt: str, first: str, second: str) -> list[int]:
        """Ids of a prompt with two answers. What is too long is cut at its end, whatever else is ranked with it."""
        asked = self._part(self._prefixes[0], prompt, PROMPT_TOKENS)
        room = (ALL_TOKENS - len(asked)) // 2
        return [*asked, *self._part(self._prefixes[1], first, room), *self._part(self._prefixes[2], second, room)]

    def _part(self, prefix: str, text: str, most: int) -> list[int]:
        for token in self._taken:  # a text must not look as if another part began
            text = text.replace(token, " ")
        return [self._cls, *self._ids(prefix + text)[: most - 2], self._sep]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids


def read_ranker_tokens(model: Path, config: RankerConfig) -> RankerTokens:
    """From tokenizer.json. Raises ValueError for one that does not serve."""
    from tokenizers import Tokenizer as Backend

    if not (model / "tokenizer.json").exists():
        raise ValueError("has no tokenizer.json; save its fast tokenizer")
    settings: dict[str, Any] = {}
    if (model / "tokenizer_config.json").exists():
        settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    cls, sep = (_content(settings.get(name, f"[{name[:3].upper()}]")) for name in ("cls_token", "sep_token"))
    return RankerTokens(Backend.from_file(str(model / "tokenizer.json")), config, cls, sep)


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def shape_problems(config: RankerConfig, shapes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Where a folder's tensors are not those of such a ranker."""
    width = config.hidden_size
    wanted = {f"{HEAD[0]}.weight": (width, 2 * width), f"{HEAD[1]}.weight": (config.tasks, width)}
    for name, shape in wanted.items():
        if name not in shapes:
            yield f"has no {name}, which PairRM-hf has"
        elif shapes[name] != shape:
            yield f"has {name} of shape {list(shapes[name])}, and its config.json makes it {list(shape)}"
    embedding = shapes.get("pretrained_model.embeddings.word_embeddings.weight")
    if embedding is None:
        yield "has no pretrained_model.embeddings.word_embeddings.weight, which PairRM-hf has"
    elif max(config.prefixes) >= embedding[0]:
        yield f"has {embedding[0]} rows in its embedding, and its special tokens are {', '.join(map(str, config.prefixes))}"


def ranker_of(model: Path, field: str) -> tuple[RankerConfig, RankerTokens]:
    """Config and tokenizer of a folder. Raises ConfigError at `field` for one that is no pair ranker."""
    try:
        config = RankerConfig.of(model)
        return config, read_ranker_tokens(model, config)
    except (ValueError, KeyError, OSError) as error:
        raise ConfigError.one(field, f"{error}; write the folder of a model as llm-blender/PairRM-hf") from error
