"""The arithmetic of docs/sizing.md: GiB on a GPU, from a model's shape and the counts of a run."""

from __future__ import annotations

from dataclasses import dataclass

from selfalign_api.run_file import TrainingMeans
from selfalign_api.training_values import Lora, TrainSettings
from selfalign_jobs.train.memory import Estimate, state_bytes, token_bytes
from selfalign_jobs.train.settings import uses_deepspeed

GIB = 2.0**30
CARDS = {"80 GB": 79.0, "24 GB": 22.0}  # GiB that a card of that name has
ENGINE_RESERVE = 4.0  # GiB of a GPU for activations, logits and graphs at 1 024 sequences and 16 384 tokens a step
SMALL_ENGINE_RESERVE = 1.5  # at 64 sequences and 4 096 tokens a step


@dataclass(frozen=True)
class Shape:
    """What of a model's config its memory depends on."""

    billions: float
    layers: int
    hidden: int
    feed_forward: int
    kv_heads: int
    head_size: int
    vocabulary: int

    @property
    def weights(self) -> float:
        """GiB in bfloat16."""
        return self.billions * 1e9 * 2 / GIB

    @property
    def config(self) -> dict[str, int]:
        """What of its config.json a training's estimate reads."""
        return {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.feed_forward,
            "vocab_size": self.vocabulary,
        }

    @property
    def cache_kib(self) -> float:
        """KiB of a token's keys and values in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head_size * 2 / 1024


MODELS = {
    "Llama-3.2-1B": Shape(1.24, 16, 2048, 8192, 8, 64, 128_256),
    "Llama-3-8B": Shape(8.03, 32, 4096, 14_336, 8, 128, 128_256),
    "Gemma-2-9B": Shape(9.24, 42, 3584, 14_336, 8, 256, 256_000),
    "Gemma-2-27B": Shape(27.2, 46, 4608, 36_864, 16, 128, 256_000),
    "Llama-3-70B": Shape(70.6, 80, 8192, 28_672, 8, 128, 128_256),
}


def sequences(shape: Shape, card: float, gpus: int, reserve: float, length: int = 2048) -> int:
    """Sequences of that length that an engine on `gpus` GPUs holds at once."""
    cache = 0.9 * card - shape.weights / gpus - reserve
    return max(0, int(cache * GIB / (shape.cache_kib * 1024 * length / gpus)))


def training(shape: Shape, gpus: int, *, zero: int = 3, offload: str = "None", lora: bool = False) -> float:
    """GiB of states on each GPU."""
    means = gpu_means(gpus, offload=offload)
    stage = zero if uses_deepspeed(means) else None
    return state_bytes(shape.billions * 1e9, settings_of(lora), means, stage) / GIB


def fitting_stage(
    shape: Shape, card: float, gpus: int, *, longest: int, offload: str = "None", lora: bool = False
) -> int:
    """The ZeRO stage that a training takes where none is written, with examples of at most so many tokens."""
    means = gpu_means(gpus, offload=offload)
    return Estimate(shape.config, shape.billions * 1e9, card * GIB, settings_of(lora), means).zero_stage(longest)


def gpu_means(gpus: int, *, offload: str = "None") -> TrainingMeans:
    """Of a training on one node."""
    return TrainingMeans.model_validate({"device": "GPU", "gpus_per_node": gpus, "offload": offload})


def settings_of(lora: bool) -> TrainSettings:
    """Those that memory depends on."""
    return TrainSettings(learning_rate=1, lora=Lora() if lora else None)


def per_token_mib(shape: Shape) -> float:
    """MiB of a token in a micro batch, activations computed again."""
    return token_bytes(shape.config, settings_of(lora=False), gpu_means(1)) / 2**20
