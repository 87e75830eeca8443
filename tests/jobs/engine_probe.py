"""Our vLLM engine in bfloat16, in a process of its own: verdict margins beside float32's, and its KV cache when that is short.

python engine_probe.py MODEL: prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.generate.engine import EngineRequest, Labels, Sampling
from selfalign_jobs.generate.engine_setup import EngineSpec, environment
from selfalign_jobs.generate.vllm_engine import VllmEngine

COMPARISONS, ANSWERS = 24, 24
BLOCKS, BLOCK_TOKENS = 40, 32  # a KV cache of 1 280 tokens, where the answers want three times as many


def main(model: Path) -> None:
    means = GenerationMeans(device="CPU", engine_args={"num-gpu-blocks-override": BLOCKS, "max_num_seqs": ANSWERS})
    os.environ.update(environment(means, threads=1))
    engine = VllmEngine(EngineSpec(EngineSettings(precision="bfloat16", max_model_tokens=256), means), model)
    draw = random.Random(0)
    margins = [compared(engine, [draw.randrange(20, 220) for _ in range(40)]) for _ in range(COMPARISONS)]
    for number in range(ANSWERS):
        prompt = [draw.randrange(20, 220) for _ in range(30)]
        engine.submit(EngineRequest(str(number), prompt, Sampling(1, 1.0, 1.0, 0, 150, number)))
    most, finished = 0.0, 0
    while finished < ANSWERS:
        finished += len(engine.step())
        most = max(most, engine.kv_use().share)
    print(
        json.dumps(
            {
                "dtype": str(engine._engine.model_config.dtype),
                "margins": margins,
                "kv_tokens": engine.facts.kv_tokens,
                "max_sequences": engine.facts.max_sequences,
                "most": most,
                "use": engine.kv_use(),
            }
        )
    )


def compared(engine: VllmEngine, prompt: list[int]) -> tuple[float, float]:
    """The margin that the engine gives, and that of the same hidden state by the same head in float32."""
    seen: list[Any] = []
    model = engine._engine.model_executor.driver_worker.worker.model_runner.model
    project = model.compute_logits
    model.compute_logits = lambda hidden, *rest: (seen.append(hidden.clone()), project(hidden, *rest))[1]
    engine.submit(EngineRequest("one", prompt, Labels(30, 31)))
    results = []
    while not results:
        results = engine.step()
    model.compute_logits = project
    comparison: Any = results[0].answer
    head = (model.lm_head if hasattr(model, "lm_head") else model.model.embed_tokens).weight
    first, second = (float(seen[-1][-1].double() @ head[label].double()) for label in (30, 31))
    return comparison.first - comparison.second, first - second


if __name__ == "__main__":
    main(Path(sys.argv[1]))
