"""Whether engine and training have the model that a folder holds: its architecture, its own code, its number format.

What they have is read from architectures.json, written from the pinned vLLM and transformers (`make pinned`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from selfalign_api.errors import Problem
from selfalign_jobs.accept.model_files import json_of
from selfalign_jobs.accept.weights import PLAIN, Tensors
from selfalign_jobs.places.models import GivenModel

KNOWN = Path(__file__).with_name("architectures.json")
# Beside config.json, of tools that quantise.
QUANTISED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
FULL = "write the URL of the model before it was quantised: {} weights in 32 or 16 bits"
CLASSES = ("Model", "PreTrainedModel", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification")
SCORES = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForRewardModel",
    "RewardModel",
    "ForQuestionAnswering",
)


@lru_cache(maxsize=1)
def known() -> dict[str, Any]:
    """What the pinned engine and training know."""
    found: dict[str, Any] = json.loads(KNOWN.read_text())
    return found


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part that is of the language model, where others stand beside it."""
    inner = next((config[key] for key in ("text_config", "llm_config") if isinstance(config.get(key), dict)), None)
    return config if inner is None else {**config, **inner}


# --- code of its own ------------------------------------------------------------------------------------------------------


def code_problems(model: GivenModel, config: Mapping[str, Any], *, allowed: bool) -> Iterator[Problem]:
    """Code of the model's own that is not allowed, is not there, or comes from elsewhere."""
    for name, said in (("config.json", config), ("tokenizer_config.json", json_of(model, "tokenizer_config.json"))):
        for kind, place in own_code(said).items():
            repository, _, path = place.rpartition("--")
            file, _, known_as = path.rpartition(".")
            words = f"{name} names code of its own, {place} (auto_map, {kind})"
            if not allowed:
                if not _is_ours(known_as, config):
                    message = "write remoteCode: Allow to let it run in every step, once you have read it"
                    yield Problem(model.field.removesuffix("url") + "remoteCode", None, f"{words}; {message}")
            elif repository:
                message = f"{words}, which lies in another repository and may change there; copy it into this one"
                yield Problem(model.field, model.url, message)
            elif f"{file.replace('.', '/')}.py" not in model.names:
                yield Problem(model.field, model.url, f"{words}, and has no {file}.py; copy the folder whole")


def own_code(said: Mapping[str, Any]) -> dict[str, str]:
    """Classes of `auto_map`, by what they stand for."""
    given = said.get("auto_map") or {}
    if isinstance(given, list | tuple):  # an older form, of tokenizers
        given = {"AutoTokenizer": given}
    found: dict[str, str] = {}
    for kind, place in given.items() if isinstance(given, dict) else ():
        places = [one for one in place if one] if isinstance(place, list | tuple) else [place]
        if places:
            found[kind] = str(places[-1])
    return found


def _is_ours(name: str, config: Mapping[str, Any]) -> bool:
    """Whether transformers has that very class, for this type of model: the folder's own code is not needed then."""
    kind, found = str(config.get("model_type")), known()
    if "Tokenizer" in name:
        return name.removesuffix("Fast") in found["tokenizers"]
    families = {re.split(r"For(?=[A-Z])|LMHead", causal)[0] for causal in found["causal"].get(kind, ())}
    ours = {f"{family}{ending}" for family in families for ending in CLASSES}
    return name in {*ours, *found["causal"].get(kind, ()), found["configurations"].get(kind)}


# --- architecture ---------------------------------------------------------------------------------------------------------


def architecture_problems(
    model: GivenModel, config: Mapping[str, Any], *, allowed: bool, trained: bool
) -> Iterator[Problem]:
    """An architecture that the engine does not serve, or, of a model that is trained, that training does not load."""
    found, kind = known(), str(config.get("model_type"))
    names = config.get("architectures") or found["causal"].get(kind) or []
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        yield Problem(
            model.field, model.url, "has no architectures in its config.json; save the model again by save_pretrained"
        )
        return
    own = own_code(config)
    its_own = allowed and "AutoModelForCausalLM" in own
    message = None
    if not its_own and not set(names) & {*found["generates"], *found["sees"]}:
        message = f"is {_a(names[0])}, {_no_writer(names[0])}"
    elif trained and not its_own and kind not in found["causal"]:
        message = (
            f"is {_a(names[0])} of type {kind}, which training cannot load "
            f"(transformers {found['transformers']} has no causal model of that type); write a model that it has"
        )
    if message:
        yield Problem(model.field, model.url, message)


def _no_writer(name: str) -> str:
    found, causal = known(), "write a causal language model, such as an instruct model"
    if name in found["scores"] or name.endswith(SCORES):
        return f"which scores texts and writes none; {causal}"
    if name in found["embeds"] or name.endswith(("Model", "ForMaskedLM")):
        return f"which reads texts and writes none; {causal}"
    if name.endswith(("ForConditionalGeneration", "ForSpeechSeq2Seq", "ForVision2Seq", "ForImageClassification")):
        return f"and vLLM {found['vllm']} does not serve it; {causal}"
    return f"an architecture that vLLM {found['vllm']} does not have; {causal}"


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


# --- number format --------------------------------------------------------------------------------------------------------


def quantised_problems(
    model: GivenModel, config: Mapping[str, Any], tensors: Tensors, *, trained: bool
) -> Iterator[Problem]:
    """A checkpoint whose weights are quantised."""
    said = (
        config.get("quantization_config")
        or text_config(config).get("quantization_config")
        or config.get("quantization")
    )
    how = None
    if isinstance(said, dict):
        how = said.get("quant_method") or ("MLX" if "group_size" in said else "quantization_config")
    elif files := [name for name in QUANTISED_FILES if name in model.sizes]:
        how = f"{files[0]} stands in the folder"
    elif odd := sorted({t.dtype for name, t in tensors.items() if t.dtype not in PLAIN and _is_weight(name)}):
        how = f"its weights are {', '.join(odd)}"
    if how is not None:
        full = FULL.format("training takes" if trained else "generation.precision is of")
        yield Problem(model.field, model.url, f"is quantised ({how}); {full}")


def _is_weight(name: str) -> bool:
    """Whether a tensor holds weights; masks and positions may be whole numbers."""
    return name.endswith(("weight", "qweight", "weight_packed", "weight_scale", "qzeros", "blocks", "absmax"))
