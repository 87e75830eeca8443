"""What vLLM refuses, as the user's configuration where no second try mends it: which field, and what to write there.

The messages are those of the pinned vLLM; tests raise them by its own functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import ValidationError

from selfalign_api.errors import ConfigError
from selfalign_jobs.generate.engine_setup import EngineSpec

GENERATION = "spec.compute.generation"
ARGUMENTS = f"{GENERATION}.engineArgs"
SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class Refusal:
    """A message of vLLM's, the field that it is about, and our words for it (`{1}` is what group 1 matched)."""

    said: str
    field: str
    words: str


REFUSALS = (
    Refusal(
        r"max seq len \((\d+)\), \(([\d.]+) GiB KV cache is needed.*memory \(([\d.]+) GiB\).*maximum model length is (\d+)",
        "spec.generation.maxModelTokens",
        "a context of {1} tokens needs {2} GiB of KV cache and {3} GiB are left beside the weights; write at most {4}, "
        "or a larger compute.generation.tensorParallelSize",
    ),
    Refusal(
        r"max seq len \((\d+)\), \(([\d.]+) GiB KV cache is needed.*memory \(([\d.]+) GiB\)",
        "spec.generation.maxModelTokens",
        "a context of {1} tokens needs {2} GiB of KV cache and {3} GiB are left beside the weights; write less, or a "
        "larger compute.generation.tensorParallelSize",
    ),
    Refusal(
        r"No available memory for the cache blocks",
        f"{GENERATION}.gpuMemoryPercent",
        "leaves no memory for the KV cache beside the weights; write more (at most 95), or a larger tensorParallelSize",
    ),
    Refusal(
        r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len \(\w+=(\d+)",
        "spec.generation.maxModelTokens",
        "{1} tokens are beyond the model's own context of {2}; write at most that",
    ),
    Refusal(
        r"out of memory",
        f"{GENERATION}.gpuMemoryPercent",
        "the engine ran out of GPU memory as it started; write less (what is left over is for activations and CUDA "
        "graphs), a lower generation.maxModelTokens, engineArgs: {{max_num_seqs: 128}}, or a larger tensorParallelSize",
    ),
    Refusal(
        r"World size \((\d+)\) is larger than the number of available GPUs \((\d+)\)",
        f"{GENERATION}.tensorParallelSize",
        "an engine of {1} GPUs is asked for and a node here has {2}; write at most that",
    ),
    Refusal(
        r"[Tt]otal number of attention heads \((\d+)\) must be divisible by tensor parallel size",
        f"{GENERATION}.tensorParallelSize",
        "does not divide the model's {1} attention heads; write a number that does",
    ),
    Refusal(
        r"Selected backend (?:AttentionBackendEnum\.)?(\w+) is not valid for this configuration\. Reason: (.*)",
        f"{ARGUMENTS}.attention_backend",
        "{1} cannot serve this model on this GPU: {2}; write another, such as TRITON_ATTN (TRITON_MLA for latent attention)",
    ),
    Refusal(
        r"A head_dtype different from the model dtype is only supported for an unquantized lm_head",
        "spec.model.url",
        "the model's output head is quantised, and verdicts are computed from it in float32; give one whose head is not",
    ),
    Refusal(
        r"Quantization method specified in the model config \((\w+)\) does not match",
        "spec.generation.precision",
        "the model is quantised already ({1}); remove it, or give the model that it was made from",
    ),
    Refusal(
        r"Bfloat16 is only supported on GPUs with compute capability",
        "spec.generation.precision",
        "this GPU computes no bfloat16; write float16",
    ),
    Refusal(
        r"(?:[Qq]uantization|fp8)[^.]*not supported",
        "spec.generation.precision",
        "this device cannot compute it; write bfloat16, or float32 on CPU",
    ),
    Refusal(
        r"Model architectures \[([^\]]*)\]",
        "spec.model.url",
        "the pinned vLLM cannot serve {1}; give a model of another architecture",
    ),
)


@contextmanager
def configuring(spec: EngineSpec) -> Iterator[None]:
    """While vLLM reads its arguments and the model's configuration: what it refuses now it refuses always."""
    try:
        yield
    except (TypeError, ValueError, NotImplementedError, AssertionError) as error:
        raise _refused(spec, error) or _unknown(spec, error) from error


@contextmanager
def starting(spec: EngineSpec) -> Iterator[None]:
    """While the engine loads and measures its memory: what does not fit is refused; another error may pass."""
    try:
        yield
    except Exception as error:
        if (refused := _refused(spec, error)) is not None:
            raise refused from error
        raise


def _refused(spec: EngineSpec, error: Exception) -> ConfigError | None:
    text = _said(error)
    for refusal in REFUSALS:
        if (found := re.search(refusal.said, text)) is not None:
            words = refusal.words.format("", *(group or "" for group in found.groups()))
            return ConfigError.one(_field(spec, refusal), words, _value(spec, refusal.field))
    return None


def _field(spec: EngineSpec, refusal: Refusal) -> str:
    """The field of a refusal; one that is about the model is where the run file names this model."""
    return spec.field if refusal.field == "spec.model.url" else refusal.field


def _unknown(spec: EngineSpec, error: Exception) -> ConfigError:
    """At the argument that the message names, by its name or its value, else at what was given beside our own."""
    text, arguments = _said(error), spec.means.engine_args
    said = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    named = next((name for name, value in arguments.items() if _names(text, name, value)), None)
    if named is None:
        return ConfigError.one(ARGUMENTS if arguments else spec.field, f"vLLM cannot run the model so: {said}")
    if "unexpected keyword argument" in text:
        return ConfigError.one(f"{ARGUMENTS}.{named}", "the pinned vLLM has no such argument; remove it")
    return ConfigError.one(f"{ARGUMENTS}.{named}", f"vLLM refuses it: {said}", arguments[named])


def _names(text: str, name: str, value: object) -> bool:
    plain = name.replace("-", "_")
    return re.search(rf"\b{re.escape(plain)}\b", text) is not None or (isinstance(value, str) and f"'{value}'" in text)


def _said(error: Exception) -> str:
    """Its words, without pydantic's frame around them."""
    if isinstance(error, ValidationError):
        parts = [(".".join(map(str, part["loc"])), part["msg"], part["input"]) for part in error.errors()]
        return "; ".join(f"{where}: {words}, not {given!r}" if where else words for where, words, given in parts)
    return " ".join(str(error).split())


def _value(spec: EngineSpec, field: str) -> object:
    """What the user wrote at a field whose words are about it; of the memory, engines that share a GPU have a part each."""
    values: Mapping[str, object] = {
        f"{GENERATION}.tensorParallelSize": spec.means.tensor_parallel_size,
        "spec.generation.precision": spec.settings.precision,
    }
    return values.get(field)
