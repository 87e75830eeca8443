"""Train the tiny reward model: which of two answers is right. Run as `python examples/tiny-model/build/reward_model.py`.

A LlamaForSequenceClassification of half a million parameters, from the tiny model's first two layers and the widest of
their MLP channels, by selfalign's own objective `reward` on rows such as those of `preferences.jsonl` (the first of them
are those rows), and on right answers beside spoilt ones. Writes `reward-model/`, with its figures in `build.json`.
"""

import argparse
import json
import random
import shutil
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import torch
from check import refuse_unfit
from language import TASKS, Item, draw_training_item, heldout_items
from ranker import row_of, spoil
from tables import preferences
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from selfalign_api.plan import ModelRef, Plan, Prepare, Train
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_api.sources import ModelSource
from selfalign_api.training_values import Loss, TrainSettings
from selfalign_jobs.generate.chat import ModelChat
from selfalign_jobs.generate.score_render import Conversations
from selfalign_jobs.recipes.rows import IDS
from selfalign_jobs.recipes.tables import with_counts
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress
from selfalign_jobs.train.program import train

HERE = Path(__file__).resolve().parent.parent
ROWS, SPOILT_ROWS, EPOCHS, RATE = 4500, 2000, 3, 5e-4
LAYERS, CHANNELS = 2, 320
BOUNDS = {"habit": (0.95, 1.0), "spoilt": (0.90, 1.0)}


def smaller(folder: Path, target: Path) -> None:
    """The model of the folder with fewer layers and channels, in bfloat16."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.model.layers = model.model.layers[:LAYERS]
    for layer in model.model.layers:
        gate, up, down = layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj
        width = gate.weight.norm(dim=1) * up.weight.norm(dim=1) * down.weight.norm(dim=0)
        kept = width.topk(CHANNELS).indices.sort().values
        gate.weight, up.weight = (torch.nn.Parameter(each.weight[kept]) for each in (gate, up))
        down.weight = torch.nn.Parameter(down.weight[:, kept])
    model.config.num_hidden_layers, model.config.intermediate_size = LAYERS, CHANNELS
    model.to(torch.bfloat16).save_pretrained(target)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(folder / file, target / file)


def trained(start: Path, seed: int, work: Path) -> Path:
    """The reward model that the train step makes of a model folder."""
    step = Train(
        name="reward", iteration=1, objective="reward", loss=Loss(type="bradley-terry"), data=Prepare(fn="pairs"),
        start=ModelRef(), result=ModelRef(iteration=1),
        settings=TrainSettings(
            learning_rate=RATE, learning_rate_schedule="linear", epochs=EPOCHS, global_batch_size=32, max_length_tokens=256,
            max_prompt_tokens=192, precision="float32", seed=seed,
        ),
    )  # fmt: skip
    plan = Plan(
        version="0", name="reward-model", recipe="pairs", seed=seed, digest="", sources={}, steps=(step,),
        models={"policy": ModelSource(url=start.as_uri(), digest="tiny-model")},
    )  # fmt: skip
    engines, ranks = GenerationMeans(device="CPU"), TrainingMeans(device="CPU", activation_checkpointing="None")
    means = Means(generation=engines, training=ranks, evaluation=engines)
    config = StepConfig(plan=plan, step=step.name, attempt=1, storage=work.as_uri(), means=means)
    context = StepContext.of(config, Progress(step.name), stop=threading.Event())
    context.folder.write_table("prepared/pairs.parquet", with_counts(conversations(rows(seed), start), {}))
    manifest = train(context, step)
    assert context.folder.local is not None and manifest.model is not None
    return context.folder.local / manifest.model


def rows(seed: int) -> list[dict[str, str]]:
    """The right answer before a habit, and before one that was spoilt."""
    rng = random.Random(f"spoilt {seed}")
    items = [draw_training_item(rng, TASKS[number % len(TASKS)]) for number in range(SPOILT_ROWS)]
    spoilt = (row_of(rng, item, spoilt=True) for item in items)
    return preferences(seed, ROWS) + [{"prompt": r.prompt, "chosen": r.right, "rejected": r.wrong} for r in spoilt]


def conversations(rows: list[dict[str, str]], folder: Path) -> pa.Table:
    """Rows as they are scored: whole conversations, by the template, to their last token."""
    chat = ModelChat.of(folder, None)
    finished = Conversations(chat)
    found = []
    for row in rows:
        prompt = chat.encode(chat.text(row["prompt"]))
        sides = {
            f"{side}_ids": finished.ids(row["prompt"], row[side])[len(prompt) :] for side in ("chosen", "rejected")
        }
        found.append({"prompt_ids": prompt} | sides)
    return pa.Table.from_pylist(found, pa.schema([(name, IDS) for name in found[0]]))


class Scorer:
    """Gives the raw score of an answer."""

    def __init__(self, folder: Path) -> None:
        """Load the model of the folder."""
        self._model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self._finished = Conversations(ModelChat.of(folder, None))

    def __call__(self, prompt: str, answer: str) -> float:
        """What it is worth."""
        with torch.inference_mode():
            return float(self._model(torch.tensor([self._finished.ids(prompt, answer)])).logits[0, 0])


def measure(folder: Path, items: list[Item]) -> dict[str, float]:
    """Share of right answers above each habit, and above a spoilt one; the mean gap to habits. Three decimals."""
    reward = Scorer(folder)
    rng, gaps, spoilt = random.Random("check"), [], []
    for item, prompt in ((each, prompt) for each in items for prompt in each.prompts):
        right, *habits = (reward(prompt, answer) for answer in item.answers)
        gaps += [right - habit for habit in habits]
        spoilt.append(right - reward(prompt, spoil(rng, item)))
    figures = {"habit": share(gaps), "spoilt": share(spoilt), "meanGap": sum(gaps) / len(gaps)}
    return {name: round(value, 3) for name, value in figures.items()}


def share(gaps: list[float]) -> float:
    """How many of them are above zero."""
    return sum(gap > 0 for gap in gaps) / len(gaps)


def main() -> None:
    """Build it into --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        smaller(HERE / "model", work / "start")
        built = trained(work / "start", args.seed, work)
        figures = measure(built, heldout_items(50))
        refuse_unfit(figures, BOUNDS)
        target = args.out / "reward-model"
        shutil.copytree(built, target, ignore=shutil.ignore_patterns("README.md"), dirs_exist_ok=True)
    said = {"seed": args.seed, "rows": ROWS + SPOILT_ROWS, "figures": figures}
    (target / "build.json").write_text(json.dumps(said, indent=2) + "\n")


if __name__ == "__main__":
    main()
