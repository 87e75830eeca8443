"""Pairs whose prompts are beyond 2 GiB, from the parts of a generation to the examples of a training.

python large_pairs.py FOLDER: prints rows, bytes of prompts, the first and last example's id, peaks of Arrow's memory and of all.
"""

from __future__ import annotations

import resource
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from selfalign_api.plan import ArtifactRef, EngineLoad, FlowJob, Generate, ModelRef, Plan, Prepare, SourceRef, Train
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_api.sources import ModelSource
from selfalign_api.training_values import Loss, TrainSettings
from selfalign_jobs.places.store import Folder, Manifest, TableEntry, step_folder, write_manifest
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.prepared import prepared_file
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.train.dataset import ROWS_A_CHUNK, examples
from selfalign_jobs.train.settings import Reads

ROWS_A_PART, PARTS, PROMPT = 1056, 64, 32 << 10
SETTINGS = TrainSettings(learning_rate=1e-6, max_length_tokens=64, max_prompt_tokens=32)


def plan() -> Plan:
    job = FlowJob(flow="sao", rows=Prepare(fn="draw", inputs=(SourceRef(name="personas"),)), out="pairs")
    held = FlowJob(flow="held-out", rows=job.rows, out="initial-answers")
    options = {"held_out": True, "max_new_pairs": None, "seed": 0}
    read = tuple(ArtifactRef(step="i1-generate", name=name) for name in ("pairs", "initial-answers"))
    steps = (
        Generate(name="i1-generate", iteration=1, load=EngineLoad(model=ModelRef(), jobs=(job, held))),
        Train(
            name="i1-train",
            iteration=1,
            loss=Loss(type="simpo"),
            data=Prepare(fn="training-pairs", inputs=read, options=options),
            start=ModelRef(),
            result=ModelRef(iteration=1),
            settings=SETTINGS,
        ),
    )
    models = {"policy": ModelSource(url="file:///model")}
    return Plan(version="0", name="large", recipe="sao", seed=0, digest="0", models=models, sources={}, steps=steps)


def part(first: int) -> pa.Table:
    """Records in the reverse of the order that they came from, each with a long prompt and its row's number as ids."""
    sources = range(first, first + ROWS_A_PART)
    return pa.table(
        {
            "_source": pa.array(list(reversed(sources)), pa.int64()),
            "_status": ["rows"] * ROWS_A_PART,
            "prompt": [f"{number:08d}" + "x" * PROMPT for number in reversed(sources)],
            "chosen": ["y" * 256] * ROWS_A_PART,
            **{
                name: pa.array([[number] for number in reversed(sources)], pa.list_(pa.int32()))
                for name in ("prompt_ids", "chosen_ids", "rejected_ids")
            },
        }
    )


def write(folder: Folder) -> None:
    """The parts, newest rows first, and the manifest of a generation that is done."""
    tables = {
        "pairs": [f"parts/pairs/{number}.parquet" for number in range(PARTS)],
        "initial-answers": ["parts/a.parquet"],
    }
    for number, name in enumerate(tables["pairs"]):
        folder.write_table(name, part((PARTS - 1 - number) * ROWS_A_PART))
    folder.write_table("parts/a.parquet", pa.table({"_source": [0], "_status": ["rows"], "prompt": ["held out"]}))
    entries = {name: TableEntry(parts=tuple(parts), rows=0) for name, parts in tables.items()}
    said = {"step": "i1-generate", "kind": "generate", "digest": "", "recipe": "sao", "version": "0", "attempt": 1}
    times = {"started": "", "finished": "", "active_seconds": 0.0, "seed": 0}
    write_manifest(folder, Manifest(**said, **times, tables=entries))  # type: ignore[arg-type]


def main(folder: Path) -> None:
    engines = GenerationMeans(device="CPU")
    means = Means(generation=engines, evaluation=engines, training=TrainingMeans(device="CPU"))
    config = StepConfig(plan=plan(), step="i1-train", attempt=1, storage=folder.as_uri(), means=means)
    write(step_folder(Folder.open(config.storage), 1, "i1-generate"))
    context = StepContext.of(config, Progress("i1-train"), threading.Event())
    step = context.config.plan.step("i1-train")
    assert isinstance(step, Train)
    kept = prepared_file(context, step.data, "pairs")
    prompt_bytes = pc.sum(pc.binary_length(context.folder.read_table(kept, ["prompt"])["prompt"])).as_py()
    reads = Reads.of(step.loss.type)
    batches = context.folder.read_batches(kept, reads.columns, ROWS_A_CHUNK)
    found = examples(batches, SETTINGS, reads, folder / "examples.arrow").table
    ends = [found["prompt_ids"][place].as_py()[0] for place in (0, found.num_rows - 1)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(found.num_rows, prompt_bytes, *ends, pa.default_memory_pool().max_memory(), peak)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
