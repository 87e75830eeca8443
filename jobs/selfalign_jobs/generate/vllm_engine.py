"""vLLM as an engine: in this process, so that it dies with its actor, and fed with token ids.

What is set here and why is measured in benchmarks/README.md, section Generation.
"""

from __future__ import annotations

import os
import time
from copy import copy
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from selfalign_api.errors import ConfigError
from selfalign_jobs.flow import Comparison, Likely, Scores, Vector
from selfalign_jobs.generate.engine import (
    Answer,
    EngineFacts,
    EngineRequest,
    EngineResult,
    Head,
    KvUse,
    Labels,
    Sample,
    Sampling,
    Tail,
    Task,
    Whole,
)
from selfalign_jobs.generate.engine_refusals import configuring, starting
from selfalign_jobs.generate.engine_setup import EngineSpec, cpu_cache_gib, engine_arguments

POOLED = {
    "classify": "no score; write a model …ForSequenceClassification",
    "embed": "no vector; write a model that embeds texts, such as BAAI/bge-small-en-v1.5",
}


class VllmEngine:
    """A vLLM engine in this process (`generate.engine.Engine`)."""

    def __init__(self, spec: EngineSpec, model: Path) -> None:
        """Load the model from its folder; takes seconds to minutes.

        The environment must be `environment(…)` before vLLM is imported. Raises ConfigError for what vLLM refuses, and for
        a model or a context that does not fit.
        """
        started = time.monotonic()
        from vllm import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.executor import Executor

        with configuring(spec):
            arguments = engine_arguments(spec, model, _capability(spec))
            if spec.means.device == "CPU":
                os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(cpu_cache_gib(spec, arguments))
            config = EngineArgs(**arguments).create_engine_config(UsageContext.LLM_CLASS)
        with starting(spec):
            self._engine = LLMEngine(config, Executor.get_class(config), log_stats=False)
        if spec.pools is not None and spec.pools not in (tasks := self._engine.get_supported_tasks()):
            message = f"is served for {', '.join(tasks)} and gives {POOLED[spec.pools]}"
            raise ConfigError.one(spec.field, message, str(model))
        self._pooled = Vector if spec.pools == "embed" else Scores
        self._preemptions = _Preemptions(self._engine)
        self._submitted: list[EngineRequest] = []  # since the last step
        self._read_by: dict[str, Labels | Tail] = {}  # what is read of log-probabilities, of the requests under way
        self._facts = EngineFacts(
            context_tokens=config.model_config.max_model_len,
            max_sequences=config.scheduler_config.max_num_seqs,
            start_seconds=time.monotonic() - started,
            kv_tokens=config.cache_config.kv_cache_size_tokens,
            queues_steps=bool(config.scheduler_config.async_scheduling),
            versions={name: version(name) for name in ("torch", "transformers")} | {"vllm": _vllm_version()},
        )

    @property
    def facts(self) -> EngineFacts:
        """What it offers."""
        return self._facts

    def submit(self, request: EngineRequest) -> None:
        """Take a request; it joins the running batch at the next step."""
        self._submitted.append(request)

    def step(self) -> list[EngineResult]:
        """One forward pass; the requests that finished."""
        self._add_submitted()
        results = []
        for output in self._engine.step():
            if output.finished:
                asked = self._read_by.pop(output.request_id, None)
                results.append(EngineResult(output.request_id, _answer(output, asked, self._pooled)))
        return results

    def kv_use(self) -> KvUse:
        """How full its KV cache is."""
        return KvUse(self._preemptions.scheduler.kv_cache_manager.usage, self._preemptions.count)

    def abort(self, id: str) -> None:
        """Forget a request."""
        self._add_submitted()
        self._read_by.pop(id, None)
        self._engine.abort_request([id])

    def _add_submitted(self) -> None:
        """All at once: one by one, between rendering and reading, each took twice as long (cold caches)."""
        for request in self._submitted:
            if isinstance(request.task, Labels | Tail):
                self._read_by[request.id] = request.task
            self._engine.add_request(request.id, engine_input(request.prompt_ids), self._params(request))
        self._submitted.clear()

    def _params(self, request: EngineRequest) -> Any:
        """VLLM's form of what is asked; benchmarks fix lengths here."""
        if isinstance(request.task, Head | Whole):
            return pooling_params("classify" if isinstance(request.task, Head) else "embed")
        return sampling_params(request.task)


class _Preemptions:
    """Counts what vLLM's scheduler preempts. Its own count comes only with statistics of every token, a tenth of its step."""

    def __init__(self, engine: Any) -> None:
        self.scheduler = engine.engine_core.engine_core.scheduler
        self.count = 0
        self._preempt = self.scheduler._preempt_request
        self.scheduler._preempt_request = self._counted

    def _counted(self, *arguments: Any, **named: Any) -> Any:
        self.count += 1
        return self._preempt(*arguments, **named)


def engine_input(prompt_ids: list[int]) -> dict[str, Any]:
    """A prompt as vLLM's own renderer would hand it on (`vllm.inputs.TokensInput`)."""
    return {"type": "token", "prompt_token_ids": prompt_ids}


@lru_cache(maxsize=2)
def pooling_params(task: str) -> Any:
    """VLLM's form of asking a head: what it gives, without the sigmoid or softmax of vLLM's default; or a vector of length 1."""
    from vllm import PoolingParams

    return PoolingParams(task=task, use_activation=task == "embed")


def sampling_params(task: Task) -> Any:
    """VLLM's form of what is asked of a model that writes."""
    assert isinstance(task, Sampling | Labels | Tail)
    if isinstance(task, Tail):
        return copy(_tail_params())
    if isinstance(task, Labels):
        # Never together with `logprobs`: on the V1 runner one such request replaces the batch's (pitfall, 0.32).
        params = copy(_common_params(Sampling(1, 0.0, 1.0, 0, 1, 0)))
        params.logprob_token_ids = list(task)
        return params
    params = copy(_common_params(task._replace(seed=0)))
    params.seed = task.seed if task.temperature > 0 else None
    return params


@lru_cache(maxsize=1)
def _tail_params() -> Any:
    """`SamplingParams` for the log-probability and the rank of each token of a prompt, and of no others."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


@lru_cache(maxsize=64)
def _common_params(sampling: Sampling) -> Any:
    """`SamplingParams` but for the seed, checked once: that takes longer than all the rest of a request's way in."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=sampling.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        include_stop_str_in_output=bool(sampling.stop),
        detokenize=bool(sampling.stop),  # else not: the loop reads ids and decodes them once
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,  # copied for each request here: no deep copy
    )


def _answer(output: Any, asked: Labels | Tail | None, pooled: type[Scores] | type[Vector]) -> Answer:
    if hasattr(output.outputs, "data"):
        return pooled(tuple(output.outputs.data.double().flatten().tolist()))
    if asked is None:
        return tuple(
            Sample(tuple(part.token_ids), "length" if part.finish_reason == "length" else "stop")
            for part in sorted(output.outputs, key=lambda part: part.index)
        )
    if isinstance(asked, Labels):
        (next_token,) = output.outputs[0].logprobs
        return Comparison(next_token[asked.first].logprob, next_token[asked.second].logprob)
    last = range(len(output.prompt_token_ids) - asked.tokens, len(output.prompt_token_ids))
    found = [output.prompt_logprobs[place][output.prompt_token_ids[place]] for place in last]
    return Likely(sum(each.logprob for each in found), all(each.rank == 1 for each in found))


def _capability(spec: EngineSpec) -> tuple[int, int] | None:
    if spec.means.device == "CPU":
        return None
    from vllm.platforms import current_platform

    found = current_platform.get_device_capability()
    return None if found is None else (found.major, found.minor)


def _vllm_version() -> str:
    import vllm

    return str(vllm.__version__)
