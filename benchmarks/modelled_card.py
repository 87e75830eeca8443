"""A card that is modelled, under vLLM's real scheduler: how long a step of an H100 takes, and whose clock it moves.

A step that computes D sequences' next token and P tokens of prompts, over C tokens of context in all, takes

    base + max(floor, token * (D + P)) + context * C + row * D        seconds

- floor: the weights are read once, bytes / 2.9 TB/s (of 3.35 peak); token: 2 flops a weight at 620 Tflop/s (of 989 dense
  in bfloat16); whichever is longer. context: keys and values of a token read at 2.7 TB/s.
- row: head, sampler and what else goes by the sequence; base: launch and gaps inside a step, with CUDA graphs.
- weights, kv_bytes: what 90 % of 80 GB leave beside weights, activations and graphs.

None of these is measured: `row` and `base` are guesses, the others are rates that published kernels reach. What is real is the
host's side: vLLM's scheduler, block manager and output processing, run as they are, and the CPU that they take here. The
model runner's own host work (inputs, launch) has no GPU to launch on; `RUNNER_SECONDS` a step stand for it.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, LogprobsLists, ModelRunnerOutput

GIB = 1 << 30
RUNNER_SECONDS = 1.5e-3
SOME_TOKEN = 1000  # what every sequence "samples": lengths are asked for, texts are put in afterwards


@dataclass(frozen=True)
class Model:
    """The figures of one model on the card, and its keys' and values' shape."""

    floor: float
    token: float
    context: float
    row: float
    base: float
    weights: int
    kv_bytes: int
    layers: int
    kv_heads: int
    head_size: int
    hidden: int

    def seconds(self, decodes: int, prompt_tokens: int, context_tokens: int) -> float:
        """How long the card takes for a step."""
        compute = max(self.floor, self.token * (decodes + prompt_tokens))
        return self.base + compute + self.context * context_tokens + self.row * decodes


MODELS = {
    "8B": Model(5.6e-3, 25.9e-6, 0.049e-6, 2.2e-6, 0.5e-3, 15 * GIB, int(53.5 * GIB), 32, 8, 128, 4096),  # Llama-3-8B
    "1B": Model(0.9e-3, 4.1e-6, 0.0122e-6, 2.2e-6, 0.5e-3, int(2.3 * GIB), 62 * GIB, 16, 8, 64, 2048),  # Llama-3.2-1B
}


@dataclass
class Clock:
    """The time of one process of the host."""

    now: float = 0.0

    def wait(self, until: float) -> None:
        """Sleep, until then at least."""
        self.now = max(self.now, until)


@dataclass
class Host:
    """Puts the CPU that is really taken here on the clock of the process that would take it; None: nobody's."""

    scale: float  # seconds of the host that a second of CPU here stands for
    _current: Clock | None = None
    _since: float = field(default_factory=time.process_time)

    def switch(self, clock: Clock | None) -> Clock | None:
        """From here on it is another's; returns whose it was."""
        now, before = time.process_time(), self._current
        if before is not None:
            before.now += self.scale * (now - self._since)
        self._current, self._since = clock, now
        return before

    def time(self, clock: Clock) -> float:
        """What a clock shows, this moment's work included."""
        self.switch(self._current)
        return clock.now


@dataclass
class Card:
    """One card: steps run one after another, whichever engine they are of."""

    model: Model
    free: float = 0.0
    busy: float = 0.0
    steps: int = 0
    written: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)  # (when it ended, how long)
    costs: list[tuple[int, float]] = field(default_factory=list)  # (sequences, from the last step's end to this one's)

    def run(self, launch: float, decodes: int, prompt_tokens: int, context_tokens: int) -> float:
        """Launch a step; returns when it ends."""
        start = max(launch, self.free)
        if self.steps:
            self.gaps.append((start, start - self.free))
        seconds = self.model.seconds(decodes, prompt_tokens, context_tokens)
        self.costs.append((decodes, start + seconds - self.free))
        self.free, self.busy = start + seconds, self.busy + seconds
        self.steps, self.written = self.steps + 1, self.written + decodes
        return self.free


class _Step(Future[Any]):
    """A step's result: whoever reads it waits for the card."""

    def __init__(self, result: Any, host: Host, clock: Clock, end: float) -> None:
        super().__init__()
        self.set_result(result)
        self._host, self._clock, self._end = host, clock, end

    def result(self, timeout: float | None = None) -> Any:
        self._host.time(self._clock)
        self._clock.wait(self._end)
        return super().result(timeout)


def executor_of(card: Card, host: Host, clock: Clock, share: float = 1.0) -> type[Executor]:
    """VLLM's executor of an engine on the card, with a share of its memory; `clock` is the engine core's process."""

    class CardExecutor(Executor):
        def _init_executor(self) -> None:
            # request -> [tokens computed, tokens of its prompt (and of what it wrote before a preemption), labels asked for]
            self._requests: dict[str, list[Any]] = {}

        def get_kv_cache_specs(self) -> list[dict[str, Any]]:
            model = card.model
            spec = FullAttentionSpec(
                block_size=16, num_kv_heads=model.kv_heads, head_size=model.head_size, dtype=torch.bfloat16
            )
            return [{f"layer.{number}": spec for number in range(model.layers)}]

        def determine_available_memory(self) -> list[int]:
            return [int(card.model.kv_bytes * share)]

        def get_supported_kv_cache_layouts(self) -> list[list[str]]:
            return [["LBNHC", "LBHNC"]]

        def set_kv_cache_layout(self, name: str) -> None:
            self.vllm_config.cache_config.kv_cache_layout = name

        def initialize_from_config(self, configs: Any) -> None: ...
        def compile_or_warm_up_model(self) -> None: ...
        def check_health(self) -> None: ...
        def shutdown(self) -> None: ...
        def take_draft_token_ids(self) -> None: ...

        def collective_rpc(self, method: Any, *arguments: Any, **options: Any) -> list[Any]:  # noqa: ARG002
            return [("generate",)] if method == "get_supported_tasks" else [None]

        @property
        def supported_tasks(self) -> tuple[str, ...]:
            return ("generate",)

        @classmethod
        def supports_async_scheduling(cls) -> bool:
            return True

        def execute_model(self, scheduled: Any, non_block: bool = False) -> Any:
            self._scheduled = scheduled
            done: Future[Any] = Future()
            done.set_result(None if scheduled.total_num_scheduled_tokens else EMPTY_MODEL_RUNNER_OUTPUT)
            return done if non_block else done.result()

        def sample_tokens(self, grammar: Any, non_block: bool = False) -> Any:  # noqa: ARG002
            whose = host.switch(None)
            output, decodes, prompt_tokens, context = self._play(self._scheduled)
            host.switch(whose)
            clock.now += RUNNER_SECONDS * host.scale
            step = _Step(output, host, clock, card.run(host.time(clock), decodes, prompt_tokens, context))
            return step if non_block else step.result()

        def _play(self, scheduled: Any) -> tuple[ModelRunnerOutput, int, int, int]:
            requests = self._requests
            for new in scheduled.scheduled_new_reqs:
                prompt = len(new.prefill_token_ids or new.prompt_token_ids)
                labels = new.sampling_params.logprob_token_ids
                requests[new.req_id] = [new.num_computed_tokens, prompt, labels]
            cached = scheduled.scheduled_cached_reqs
            for place, id in enumerate(cached.req_ids):
                if id in cached.resumed_req_ids:
                    requests[id][0] = cached.num_computed_tokens[place]
                    requests[id][1] = max(requests[id][1], len(cached.all_token_ids.get(id, ())))
            for id in scheduled.finished_req_ids:
                requests.pop(id, None)
            ids, sampled, decodes, prompt_tokens, context = [], [], 0, 0, 0
            for id, tokens in scheduled.num_scheduled_tokens.items():
                request = requests[id]
                request[0] += tokens
                context += request[0]
                if tokens > 1 or request[0] < request[1]:
                    prompt_tokens += tokens
                else:
                    decodes += 1
                ids.append(id)
                sampled.append([SOME_TOKEN] if request[0] >= request[1] else [])
            output = ModelRunnerOutput(
                req_ids=ids,
                req_id_to_index={id: place for place, id in enumerate(ids)},
                sampled_token_ids=sampled,
                logprobs=self._logprobs(ids),
            )
            return output, decodes, prompt_tokens, context

        def _logprobs(self, ids: list[str]) -> LogprobsLists | None:
            labels = [self._requests[id][2] for id in ids]
            if not any(labels):
                return None
            tokens = np.zeros((len(ids), 3), dtype=np.int32)
            for place, pair in enumerate(labels):
                if pair:
                    tokens[place, 1:] = pair
            values = np.random.rand(len(ids), 3).astype(np.float32) - 2
            return LogprobsLists(tokens, values, np.ones(len(ids), dtype=np.int32), None)

    return CardExecutor
