"""Kinds of failure: how each is recognised, which exit code it has, and what to do about it.

Libraries hide what happened: a full disk is a SafetensorError, a RuntimeError of torch's zip writer, a task error of
Ray's. So a kind is recognised by the words of the exception and of all that it came from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from selfalign_api.outcome import FAILED, Exit
from selfalign_jobs.step.words import all_said, chain, plain, words_of

Section = Literal["generation", "training"]  # of spec.compute: whose means the failed work had


class Failed(Exception):
    """Work in other processes failed; the words begin with what was raised there."""

    def __init__(self, section: Section, words: str) -> None:
        super().__init__(section, words)
        self.section: Section = section
        self.words = words

    def __str__(self) -> str:
        """The words."""
        return self.words


@dataclass(frozen=True)
class Kind:
    """A kind of failure."""

    name: str
    code: int
    sign: re.Pattern[str]  # in the words of the failure
    advice: str | Mapping[Section | None, str]  # what to do about it; None: of neither section

    def advises(self, section: Section | None) -> str:
        """What to do about it where it happened."""
        return self.advice if isinstance(self.advice, str) else self.advice[section]


def _sign(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# What vLLM refuses is told at its field (generate/engine_refusals.py), what a folder shows when the run is accepted; these
# are what is left. The first that fits counts: what the user wrote, before what follows from it; lost peers last, for
# whatever ends one process of several is told by the others as a lost connection.
KINDS = (
    Kind(
        "code of the model's",
        Exit.CONFIG,
        _sign(
            r"custom code which must be executed",
            r"trust_remote_code[=` ]+True",
            r"requires you to execute the .* file",
        ),
        "write spec.model.remoteCode: Allow if you trust that code, or another spec.model.url",
    ),
    Kind(
        "architecture",
        Exit.CONFIG,
        _sign(
            r"model architectures? .* (is|are) not supported",
            r"does not recognize this architecture",
            r"no vLLM implementation",
        ),
        "write a spec.model.url of an architecture that the pinned libraries have",
    ),
    Kind(
        "broken weights",
        Exit.CONFIG,
        _sign(r"SafetensorError.*(header|metadata)", r"deserializing header", r"MetadataIncompleteBuffer"),
        "fetch the model again and write its spec.model.url: a file of its weights is cut short, or no safetensors",
    ),
    Kind(
        "shared memory",
        FAILED,
        _sign(
            r"insufficient shared memory",
            r"SIGBUS",
            r"bus error",
            r"/dev/shm\b.*no space",
            r"no space.*/dev/shm",
            r"</torch_\d+",
        ),
        "give /dev/shm more room: in compute.podTemplate.spec a volume {name: shm, emptyDir: {medium: Memory, sizeLimit: 64Gi}}",
    ),
    Kind(
        "full storage",
        Exit.STOPPED,
        _sign(
            r"no space left on (device|disk)",
            r"disk quota exceeded",
            r"(os error|errno:?) (28|122)\b",
            r"\b(ENOSPC|EDQUOT)\b",
            r"PytorchStreamWriter failed writing",
            r"inline_container\.cc.*unexpected pos",
            r"iostream error",
            r"(disk|storage|device) is full|disk full|OutOfDiskError",
            r"StorageFull|InsufficientStorage|Insufficient Storage",
            r"not enough (free )?(disk )?space",
        ),
        "the storage is full: make room, then it goes on where it was; storage.keepCheckpoints: 1 takes less of it",
    ),
    Kind(
        "memory of the GPU",
        FAILED,
        _sign(
            r"(CUDA|HIP|XPU|GPU)( error:)? out of memory",
            r"torch\S*OutOfMemoryError",
            r"^OutOfMemoryError: (CUDA|HIP)",
            r"cudaErrorMemoryAllocation",
            r"(CUBLAS|CUSOLVER|CUSPARSE|CUFFT)_STATUS_ALLOC_FAILED",
            r"Cuda failure.*out of memory",
            r"No available memory for the cache blocks",
            r"less than desired GPU memory utilization",
            r"larger than the available KV cache memory|KV cache is needed",
        ),
        {
            "training": "lower spec.compute.training.microBatchTokens, or write offload: Optimizer, a higher zeroStage, "
            "activationCheckpointing: Full or more gpusPerNode there",
            "generation": "lower spec.generation.maxModelTokens, raise spec.compute.generation.tensorParallelSize, or "
            "write engineArgs: {max_num_seqs: 256} there; where others use the GPU, a lower gpuMemoryPercent",
            None: "free the GPU of other programs",
        },
    ),
    Kind(
        "main memory",
        FAILED,
        _sign(
            r"\bMemoryError\b",
            r"cannot allocate memory",
            r"\berrno 12\b|os error 12\b|ENOMEM",
            r"bad_alloc",
            r"can't allocate memory|not enough memory",
            r"ArrowMemoryError|malloc of size \d+ failed|realloc of size \d+ failed",
            r"node running low on memory",
            r"died without a word|ended by SIGKILL",
            r"OOM[ -]?kill",
            r"unable to allocate .* for an array",
        ),
        {
            "training": "raise resources.limits.memory of spec.compute.training, or lower microBatchTokens there; "
            "offload: None keeps the optimiser out of main memory where the GPU has room",
            "generation": "raise resources.limits.memory of spec.compute.generation, or write fewer replicas there, or a "
            "lower spec.generation.maxModelTokens",
            None: "give it more main memory: resources.limits.memory under spec.compute",
        },
    ),
    Kind(
        "a place out of reach",
        FAILED,
        _sign(r"cannot be reached now", r"could not be fetched from the hub"),
        "look at the network, at https_proxy and no_proxy, and at the place itself",
    ),
    Kind(
        "lost node",
        FAILED,
        _sign(
            r"lost one another",
            r"node (has )?(died|was (terminated|lost))|NodeDiedError",
            r"ActorUnavailableError|The actor is temporarily unavailable",
            r"worker process has died|The actor died unexpectedly|owner has exited",
            r"connection (was )?(reset|closed|lost|refused)( by (the )?(remote )?peer)?",
            r"ncclRemoteError|remote process exited or there was a network error",
            r"ProcessGroup\w+.*(timeout|timed out)|watchdog caught collective operation timeout",
            r"DistNetworkError|DistStoreError|RendezvousConnectionError|Broken pipe",
        ),
        "a process or node of this step was lost; the next attempt goes on from what is durable",
    ),
)

BY_NAME = {kind.name: kind for kind in KINDS}
FULL, LOST = BY_NAME["full storage"], BY_NAME["lost node"]


def kind_of(error: BaseException) -> Kind | None:
    """The kind of a failure; None for one that is of none, a bug most likely."""
    words = "\n".join(_signs_of(found) for found in chain(error))
    return next((kind for kind in KINDS if kind.sign.search(words)), None)


def told(error: BaseException) -> tuple[int, str]:
    """The exit code of a failure, and its words: the exception, then what to do about it."""
    words = plain(error.words) if isinstance(error, Failed) else words_of(error)
    kind = kind_of(error)
    if kind is None:
        return FAILED, words
    advice = kind.advises(error.section if isinstance(error, Failed) else None)
    return kind.code, f"{words.rstrip(' .')}; {advice}"


def _signs_of(error: BaseException) -> str:
    """What a kind is recognised by: type, number and words, no line of code."""
    number = f" errno {error.errno}" if isinstance(error, OSError) and error.errno else ""
    return f"{type(error).__qualname__}{number}: {all_said(str(error))}"
