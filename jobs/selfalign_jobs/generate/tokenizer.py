"""A model's tokenizer: as transformers loads it for the engine's actor, or read from its files where nothing heavy may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign_api.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

FIELD = "spec.model.url"
CLASSES_WITHOUT_DEFAULTS = (None, "PreTrainedTokenizerFast", "TokenizersBackend")


class Added(NamedTuple):
    """A token that was added to the vocabulary as it is."""

    content: str
    special: bool
    lstrip: bool


@dataclass(frozen=True)
class Tokenizer:
    """What a chat needs of a tokenizer."""

    backend: Backend
    added: Mapping[int, Added]
    special: Mapping[str, Any]  # bos_token and the like, as chat templates read them
    templates: Mapping[str, str]  # the folder's chat templates by name
    end_id: int


def load_tokenizer(model: Path, *, remote_code: bool = False) -> Tokenizer:
    """By transformers, with all that its classes do. Raises ConfigError for one that is not fast or has no end token."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(model, trust_remote_code=remote_code)
    if not loaded.is_fast:
        raise ConfigError.one(FIELD, "the model has no tokenizer.json; save its fast tokenizer", str(model))
    if loaded.eos_token_id is None:
        raise _no_end(model)
    templates = loaded.chat_template or {}
    return Tokenizer(
        backend=loaded.backend_tokenizer,
        added={id: Added(t.content, t.special, t.lstrip) for id, t in loaded.added_tokens_decoder.items()},
        special=loaded.special_tokens_map,
        templates={"default": templates} if isinstance(templates, str) else templates,
        end_id=loaded.eos_token_id,
    )


def read_tokenizer(model: Path, *, remote_code: bool = False) -> Tokenizer:
    """From tokenizer.json and tokenizer_config.json, in milliseconds; by transformers where those do not say all.

    Raises ConfigError as `load_tokenizer`; ValueError for a file that is broken.
    """
    from tokenizers import Tokenizer as Backend

    settings = _json(model / "tokenizer_config.json")
    if not (model / "tokenizer.json").exists() or (remote_code and "auto_map" in settings):
        return load_tokenizer(model, remote_code=remote_code)
    special = _special_tokens(model, settings)
    if "eos_token" not in special and settings.get("tokenizer_class") not in CLASSES_WITHOUT_DEFAULTS:
        return load_tokenizer(model, remote_code=remote_code)
    try:
        backend = Backend.from_file(str(model / "tokenizer.json"))
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"tokenizer.json is no tokenizer: {error}") from error
    end = backend.token_to_id(str(special["eos_token"])) if "eos_token" in special else None
    if end is None:
        raise _no_end(model)
    added = backend.get_added_tokens_decoder().items()
    return Tokenizer(
        backend=backend,
        added={id: Added(t.content, t.special, t.lstrip) for id, t in added},
        special=special,
        templates=_templates(model, settings),
        end_id=end,
    )


def chat_templates(model: Path) -> dict[str, str]:
    """The folder's chat templates by name; none of most encoders. Raises ValueError for a file that is broken."""
    return _templates(model, _json(model / "tokenizer_config.json"))


def _no_end(model: Path) -> ConfigError:
    return ConfigError.one(FIELD, "the tokenizer has no end token; set eos_token", str(model))


def _special_tokens(model: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The named tokens, as text."""
    older = {} if "added_tokens_decoder" in settings else _json(model / "special_tokens_map.json")
    found = {name: value for name, value in ({**settings, **older}).items() if name.endswith("_token")}
    texts = {name: value["content"] if isinstance(value, Mapping) else value for name, value in found.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _templates(model: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates by name; those in files of their own stand before those in the tokenizer's settings."""
    files = {file.stem: file for file in sorted((model / "additional_chat_templates").glob("*.jinja"))}
    if (own := model / "chat_template.jinja").exists():
        files["default"] = own
    if files:
        return {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    said = settings.get("chat_template") or {}
    if isinstance(said, str):
        return {"default": said}
    return {entry["name"]: entry["template"] for entry in said}


def _json(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file.name} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} is no JSON object")
    return found
