"""A training that was stopped, saved and resumed with another budget ends in the weights of one that nothing disturbed."""

from __future__ import annotations

import threading
from pathlib import Path

import packed_models
import pyarrow as pa
import torch

from selfalign_api.plan import ModelRef, Prepare, Train
from selfalign_api.run_file import TrainingMeans
from selfalign_api.training_values import Loss, TrainSettings
from selfalign_jobs.places.store import Folder
from selfalign_jobs.train.attention import NAME
from selfalign_jobs.train.checkpoint import fetch, newest, published
from selfalign_jobs.train.dataset import TokenIds, lengths_of
from selfalign_jobs.train.loader import Steps, collator
from selfalign_jobs.train.objectives import objective_of
from selfalign_jobs.train.saving import Saving
from selfalign_jobs.train.settings import PAIR_COLUMNS, shape_of, trainer_arguments
from selfalign_jobs.train.steps import Layout, order
from selfalign_jobs.train.trainer import LogRow, StepTrainer

ROWS, BATCH, EPOCHS = 15, 8, 4  # the last step of each epoch takes seven
SETTINGS = TrainSettings(
    learning_rate=1e-3, warmup_ratio=0, precision="float32", global_batch_size=BATCH, epochs=EPOCHS
)
STEP = Train(
    name="train", iteration=1, loss=Loss(type="simpo", beta=2, gamma=1), data=Prepare(fn="rows"), start=ModelRef(),
    result=ModelRef(iteration=1), settings=SETTINGS,
)  # fmt: skip


def table() -> pa.Table:
    examples = packed_models.examples(2, ROWS)
    columns = [[prompt.tolist() for prompt, _ in examples]]
    columns += [[answers[side].tolist() for _, answers in examples] for side in (0, 1)]
    schema = pa.schema([(name, pa.list_(pa.int32())) for name in PAIR_COLUMNS])
    return pa.table(dict(zip(PAIR_COLUMNS, columns, strict=True))).cast(schema)


def trainer(folder: Path, budget: int, *, stop_at: int = 0, interval: float = 1e9) -> StepTrainer:
    """A trainer that is stopped after a step, and saves to `store` beside its folder."""
    stop, layout, rows = threading.Event(), Layout(packed=True), table()
    steps = Steps(
        TokenIds(rows), lengths_of(rows), order(ROWS, EPOCHS, BATCH, seed=0),
        ranks=1, rank=0, budget=budget, layout=layout, collate=collator(layout, 2),
    )  # fmt: skip
    model = packed_models.model("llama")
    model.set_attn_implementation(NAME)

    def on_log(row: LogRow) -> None:
        if row["step"] == stop_at:
            stop.set()

    means = TrainingMeans(device="CPU", activation_checkpointing="None")
    made = StepTrainer(
        model=model,
        args=trainer_arguments(STEP, means, len(steps), folder),
        steps=steps,
        objective=objective_of(STEP.loss),
        on_log=on_log,
    )
    saving = Saving(
        stop=stop, folder=store(folder), attempt=1, shape=shape_of(means, None), interval_seconds=interval, keep=2,
        on_begin=made.start_clock,
    )  # fmt: skip
    made.add_callback(saving)
    return made


def store(folder: Path) -> Folder:
    return Folder.open((folder.parent / "store").as_uri())


def test_resumed_equals_unbroken_also_with_another_budget(tmp_path: Path) -> None:
    unbroken = trainer(tmp_path / "unbroken", budget=400)
    unbroken.train()
    stopped = trainer(tmp_path / "stopped", budget=400, stop_at=3, interval=0)
    stopped.train()
    checkpoint = newest(store(tmp_path / "stopped"))
    assert checkpoint is not None
    assert len(published(store(tmp_path / "stopped"))) == 2  # of the stop, and one that was saved on the way
    resumed = trainer(tmp_path / "resumed", budget=250)
    resumed.train(resume_from_checkpoint=str(fetch(store(tmp_path / "stopped"), checkpoint, tmp_path / "work")))
    assert [row["step"] for row in resumed.state.log_history] == list(range(1, 2 * EPOCHS + 1))
    for found, expected in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
