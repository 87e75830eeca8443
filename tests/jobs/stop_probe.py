"""Our vLLM engine asked to stop at a text, in a process of its own.

python stop_probe.py MODEL: prints a line of JSON: what was written with and without the stop, and how it ended.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from selfalign_api.plan import EngineSettings, Role
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.flow import Completion, Write
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.engine import EngineRequest
from selfalign_jobs.generate.engine_setup import EngineSpec, environment
from selfalign_jobs.generate.render import Renderer
from selfalign_jobs.generate.vllm_engine import VllmEngine

PERSONA = (
    'You are a quiet baker who counts everything. Write one request for an AI assistant. Begin with "User prompt:".'
)
STOP = "words"
ROLES = {
    "whole": Role(temperature=0, max_tokens=32),
    "stopped": Role(temperature=0, max_tokens=32, stop=(STOP,)),
    "sampled": Role(temperature=1, max_tokens=32, stop=(STOP,)),
}


def main(model: Path) -> None:
    means = GenerationMeans(device="CPU")
    os.environ.update(environment(means, threads=1))
    engine = VllmEngine(EngineSpec(EngineSettings(precision="float32", max_model_tokens=128), means), model)
    renderer = Renderer(ModelChat.of(model, None), ROLES, engine.facts.context_tokens)
    asked = {role: Write(role, PERSONA, n, 0) for role, n in (("whole", 1), ("stopped", 1), ("sampled", 8))}
    for name, request in asked.items():
        ids, task = renderer.render(request)
        engine.submit(EngineRequest(name, ids, task))
    found: dict[str, list[tuple[str, str]]] = {}
    while len(found) < len(asked):
        for name, answer in engine.step():
            made: list[Completion] = renderer.completions(asked[name], [], answer)  # type: ignore[arg-type]
            found[name] = [(each.text, each.finish_reason) for each in made]
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
