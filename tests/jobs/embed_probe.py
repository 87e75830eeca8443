"""Our vLLM engine on an embedder, in a process of its own.

python embed_probe.py MODEL CONTEXT TEXT…: prints a line of JSON: the ids and the vector of each text.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.flow import Embed
from selfalign_jobs.generate.embed_render import EmbedRenderer
from selfalign_jobs.generate.engine import EngineRequest
from selfalign_jobs.generate.engine_setup import EngineSpec, environment
from selfalign_jobs.generate.vllm_engine import VllmEngine


def main(model: Path, context: int, texts: list[str]) -> None:
    means = GenerationMeans(device="CPU")
    os.environ.update(environment(means, threads=1))
    settings = EngineSettings(precision="float32", max_model_tokens=context)
    engine = VllmEngine(EngineSpec(settings, means, pools="embed"), model)
    renderer = EmbedRenderer.of(model, engine.facts.context_tokens)
    found: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        ids, task = renderer.render(Embed("embed", text))
        engine.submit(EngineRequest(str(number), ids, task))
        found.append({"ids": ids})
    done = 0
    while done < len(texts):
        for result in engine.step():
            done += 1
            found[int(result.id)]["vector"] = result.answer.values  # type: ignore[union-attr]
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
