"""Writes what is known of the pinned vLLM and transformers without importing them: `make pinned`, after a change of a lock.

crds/selfalign_api/engine_fields.json        the arguments of vLLM's engine, with the kinds of values that each takes
jobs/selfalign_jobs/accept/architectures.json  which models the engine serves, and which of them training loads
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

REPOSITORY = Path(__file__).parents[1]
ENGINE_FIELDS = REPOSITORY / "crds/selfalign_api/engine_fields.json"
ARCHITECTURES = REPOSITORY / "jobs/selfalign_jobs/accept/architectures.json"

KINDS = {bool: "boolean", int: "integer", float: "number", str: "text", NoneType: "null", dict: "map"} | dict.fromkeys(
    (list, tuple, set), "list"
)
NAMES = {"None": NoneType} | {kind.__name__: kind for kind in KINDS}
# Decoders of models that have an encoder or eyes: transformers calls them causal, and no text goes in alone.
NO_LANGUAGE_MODEL = re.compile(
    r"Bert|Bart|Roberta|Electra|Pegasus|Blenderbot|Marian|Musicgen|Whisper|Data2Vec|Ernie(?!4)|Xmod|Git|Camembert"
    r"|Assistant|Moshi|Mllama|VL|GotOcr|Fuyu|Multimodal|Emu3"
)


def engine_fields() -> dict[str, Any]:
    """The fields of `vllm.EngineArgs`: kinds of values, or the values themselves where there are few."""
    import vllm
    from vllm import EngineArgs

    found = {field.name: sorted(set(_kinds(field.type))) for field in fields(EngineArgs) if field.name[0] != "_"}
    return {"vllm": _version(vllm), "fields": dict(sorted(found.items()))}


def _kinds(hint: Any) -> Iterator[str]:
    if isinstance(hint, str):  # it names what is imported for type checks only
        for part in hint.split(" | "):
            yield from _kinds(NAMES.get(part.partition("[")[0], object))
    elif get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _kinds(part)
    elif get_origin(hint) is Literal:
        yield from (f"={value}" for value in get_args(hint))
    else:
        plain = get_origin(hint) or hint
        if plain in KINDS:
            yield KINDS[plain]
        else:  # vLLM takes a map for each of its configurations
            yield "map" if is_dataclass(plain) else "any"


def architectures() -> dict[str, Any]:
    """Names by who knows them: the engine's registry, and transformers' causal models by their type."""
    import transformers
    import vllm
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES
    from vllm.model_executor.models import registry

    causal = {
        kind: [names] if isinstance(names, str) else list(names)
        for kind, names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
    }
    native = {*registry._TEXT_GENERATION_MODELS, *registry._TRANSFORMERS_SUPPORTED_MODELS}
    other = {name for names in causal.values() for name in names} - native - {*registry._MULTIMODAL_MODELS}
    # What vLLM's registry lacks runs there by transformers' own code, where that lets its attention be replaced.
    by_transformers = {
        name for name in other if not NO_LANGUAGE_MODEL.search(name) and _is_compatible(getattr(transformers, name))
    }
    return {
        "vllm": _version(vllm),
        "transformers": _version(transformers),
        "generates": sorted(native | by_transformers),
        "sees": sorted(registry._MULTIMODAL_MODELS),
        "embeds": sorted({*registry._EMBEDDING_MODELS, *registry._LATE_INTERACTION_MODELS} - native),
        "scores": sorted(
            {
                *registry._REWARD_MODELS,
                *registry._TOKEN_CLASSIFICATION_MODELS,
                *registry._SEQUENCE_CLASSIFICATION_MODELS,
            }
            - native
        ),
        "causal": dict(sorted(causal.items())),
        "configurations": dict(sorted(CONFIG_MAPPING_NAMES.items())),
        "tokenizers": sorted({name.removesuffix("Fast") for name in TOKENIZER_MAPPING_NAMES.values() if name}),
    }


def _is_compatible(model: Any) -> bool:
    return bool(model.is_backend_compatible() or model._can_set_attn_implementation())


def _version(package: Any) -> str:
    return str(package.__version__).partition("+")[0]


def text_of(found: dict[str, Any]) -> str:
    """As it stands in a file."""
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    ENGINE_FIELDS.write_text(text_of(engine_fields()))
    ARCHITECTURES.write_text(text_of(architectures()))
