"""Our vLLM engine on a scoring model, in a process of its own.

python score_probe.py MODEL: prints a line of JSON: ids and raw scores of conversations.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from selfalign_api.plan import EngineSettings
from selfalign_api.run_file import GenerationMeans
from selfalign_jobs.flow import Score, SetAside
from selfalign_jobs.generate.classifier import reading_of
from selfalign_jobs.generate.engine import EngineRequest
from selfalign_jobs.generate.engine_setup import EngineSpec, environment
from selfalign_jobs.generate.score_render import ScoreRenderer
from selfalign_jobs.generate.vllm_engine import VllmEngine

ROWS = (
    ("Reverse these words: dog red saw", "saw red dog"),
    ("Which is larger, 3 or 9?", "3"),
    ("Which is larger, 3 or 9?", "9 " * 20),
    ("", ""),
)
CONTEXT = 128


def main(model: Path) -> None:
    means = GenerationMeans(device="CPU")
    os.environ.update(environment(means, threads=1))
    settings = EngineSettings(precision="float32", max_model_tokens=CONTEXT)
    engine = VllmEngine(EngineSpec(settings, means, pools="classify"), model)
    renderer = ScoreRenderer(reading_of(model, None), engine.facts.context_tokens)
    found: dict[str, Any] = {}
    for number, (prompt, answer) in enumerate(ROWS):
        ids, task = renderer.render(Score("judge", prompt, answer))
        engine.submit(EngineRequest(str(number), ids, task))
        found[str(number)] = {"ids": ids}
    try:
        renderer.render(Score("judge", "Why?", "dog " * CONTEXT))
    except SetAside as aside:
        found["aside"] = str(aside)
    done = 0
    while done < len(ROWS):
        for result in engine.step():
            done += 1
            found[result.id]["logits"] = result.answer.logits  # type: ignore[union-attr]
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
