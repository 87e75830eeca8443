"""The real trainer on CPU: one unbroken training and what it must show; stops, kills and other ranks must end alike."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import trainings
from run_files import entry_arguments
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign_api.errors import ConfigError
from selfalign_api.plan import Plan
from selfalign_api.training_values import Lora, Loss, Optimizer
from selfalign_jobs.entry import run_step
from selfalign_jobs.places.store import Manifest, read_manifest, read_parts
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.ending import ending
from selfalign_jobs.train.checkpoint import MANIFEST as CHECKPOINT_MANIFEST
from selfalign_jobs.train.checkpoint import newest, published
from selfalign_jobs.train.dataset import TokenIds, lengths_of
from selfalign_jobs.train.loader import Steps, collator
from selfalign_jobs.train.objectives import objective_of
from selfalign_jobs.train.policy import load
from selfalign_jobs.train.program import train
from selfalign_jobs.train.scoring import add_scoring_head
from selfalign_jobs.train.settings import PAIR_COLUMNS, trainer_arguments
from selfalign_jobs.train.steps import Layout, order
from selfalign_jobs.train.trainer import StepTrainer

pytestmark = pytest.mark.heavy
STEPS = 60
DPO = Loss(type="dpo", beta=0.5)
SETTINGS = {"global_batch_size": 8, "epochs": STEPS * 8 / 80, "learning_rate": 3e-4, "seed": 7}


@pytest.fixture(scope="session")
def pairs() -> pa.Table:
    """80 pairs, and one beyond the bounds."""
    table = trainings.pairs(80)
    long = table.slice(0, 1).to_pylist()[0] | {"chosen_ids": [5] * 300}
    return pa.concat_tables([table, pa.Table.from_pylist([long], table.schema)])


@pytest.fixture(scope="session")
def plan() -> Plan:
    """DPO on the tiny model: 60 steps of 8 pairs, in float32."""
    return trainings.training(loss=DPO, settings=SETTINGS)[0]


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory, plan: Plan, pairs: pa.Table) -> tuple[StepContext, Manifest]:
    """The training that nothing disturbs."""
    context = trainings.context(plan, tmp_path_factory.mktemp("unbroken"), pairs)
    step = plan.steps[0]
    assert step.kind == "train"
    return context, train(context, step)


def weights(context: StepContext) -> dict[str, torch.Tensor]:
    """The published weights."""
    local = context.folder.local
    assert local is not None
    return load_file(local / "model" / "model.safetensors")


def rows_of(context: StepContext, manifest: Manifest) -> list[dict[str, float]]:
    """The training log."""
    rows: list[dict[str, float]] = read_parts(context.folder, manifest.tables["log"]).to_pylist()
    return rows


def shown_by_tensorboard(context: StepContext, name: str) -> list[float]:
    """A curve of the step's folder, once for each optimiser step."""
    reader = EventAccumulator(context.folder.path, size_guidance={"scalars": 0})
    reader.Reload()
    events = reader.Scalars(name)
    assert [event.step for event in events] == list(range(1, STEPS + 1))
    return [event.value for event in events]


# --- an unbroken training ---------------------------------------------------------------------------------------------


def test_the_manifest_is_committed_and_counts_pairs_steps_and_tokens(
    unbroken: tuple[StepContext, Manifest], pairs: pa.Table
) -> None:
    context, manifest = unbroken
    assert read_manifest(context.folder) == manifest
    result = manifest.result
    assert (result["steps"], result["pairs"], result["pairsGiven"], result["droppedOverlong"]) == (STEPS, 80, 81, 1)
    assert set(result["seconds"]) == {"start", "reference", "load", "train", "export"}
    table = pairs.slice(0, 80)
    once = sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in table.to_pylist())
    assert manifest.tokens == {"train": once * STEPS * 8 // 80}


def test_the_policy_begins_as_its_reference(unbroken: tuple[StepContext, Manifest]) -> None:
    first = rows_of(*unbroken)[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["margin"] == pytest.approx(0, abs=1e-5)


def test_it_learns_and_the_log_shows_it(unbroken: tuple[StepContext, Manifest]) -> None:
    rows = rows_of(*unbroken)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert np.mean([row["loss"] for row in rows[-10:]]) < 0.5 * rows[0]["loss"]
    assert np.mean([row["accuracy"] for row in rows[-10:]]) > 0.9
    assert rows[-1]["margin"] == pytest.approx(rows[-1]["rewards_chosen"] - rows[-1]["rewards_rejected"])
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


def test_warm_up_and_schedule_are_those_asked_for(unbroken: tuple[StepContext, Manifest]) -> None:
    rates = [row["learning_rate"] for row in rows_of(*unbroken)]
    warm_up, peak = 6, 3e-4
    expected = [peak * min(n / warm_up, (STEPS - n) / (STEPS - warm_up)) for n in range(STEPS)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_progress_ends_where_the_training_did(unbroken: tuple[StepContext, Manifest]) -> None:
    context, manifest = unbroken
    figures = context.progress.snapshot()["figures"]
    assert figures["loss"] == manifest.result["loss"]
    assert set(figures) == {"tokensPerSecond", "computedTokensPerSecond", "loss", "margin", "accuracy"}
    value = context.progress.metrics.registry.get_sample_value
    assert value("selfalign_train_loss") == manifest.result["loss"]
    assert 0 < (value("selfalign_train_pair_tokens", {"side": "chosen"}) or 0) < 256


def test_reference_log_probabilities_are_kept_and_are_the_given_models(
    unbroken: tuple[StepContext, Manifest], pairs: pa.Table
) -> None:
    context, _ = unbroken
    kept = context.folder.read_table("reference/log_probs.parquet")
    assert kept.num_rows == 80
    model = AutoModelForCausalLM.from_pretrained(trainings.MODEL, dtype=torch.float64)
    for number in (0, 41, 79):
        row = pairs.slice(number, 1).to_pylist()[0]
        for name in ("chosen", "rejected"):
            prompt, answer = row["prompt_ids"], row[f"{name}_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([prompt + answer])).logits[0]
            chosen = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None])
            assert kept[name][number].as_py() == pytest.approx(float(chosen.sum()), abs=1e-4)


def test_the_model_is_a_plain_folder_with_everything_of_the_given_one(unbroken: tuple[StepContext, Manifest]) -> None:
    context, manifest = unbroken
    assert manifest.model == "model"
    folder = context.folder.local / "model" if context.folder.local else Path()
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (trainings.MODEL / name).read_bytes()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    given = AutoModelForCausalLM.from_pretrained(trainings.MODEL, dtype="auto")
    assert model.dtype == given.dtype
    assert model.generation_config.eos_token_id == given.generation_config.eos_token_id
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), given.parameters(), strict=True)]
    assert all(moved)
    assert AutoTokenizer.from_pretrained(folder).chat_template
    card = (folder / "README.md").read_text()
    assert "sha256:tiny" in card
    assert "dpo, β 0.5" in card


def test_nothing_else_is_left_in_the_steps_folder(unbroken: tuple[StepContext, Manifest]) -> None:
    context, _ = unbroken
    tops = {name.split("/")[0].partition(".out.tfevents.")[0] for name in context.folder.files()}
    assert tops == {"events", "manifest.json", "model", "parts", "prepared", "reference"}


def test_tensorboard_shows_the_log(unbroken: tuple[StepContext, Manifest]) -> None:
    context, manifest = unbroken
    logged = [row["accuracy"] for row in rows_of(context, manifest)]
    assert shown_by_tensorboard(context, "train/rewards/accuracies") == pytest.approx(logged)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_the_model_sees_the_ids_of_the_table_and_a_packed_one_sees_a_prompt_once(
    tmp_path: Path, pairs: pa.Table, packed: bool
) -> None:
    plan, step = trainings.training(settings={"global_batch_size": 8, "epochs": 1})
    means = trainings.context(plan, tmp_path, pairs).config.means.training
    table = pairs.slice(0, 8).select(PAIR_COLUMNS)
    seen: list[int] = []
    model = load(trainings.MODEL, torch.float32, remote_code=False, packed=packed)
    add_scoring_head(model)
    model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0].flatten().tolist()))
    trainer = StepTrainer(
        model=model,
        args=trainer_arguments(step, means, 1, tmp_path / "trainer"),
        steps=Steps(
            TokenIds(table),
            lengths_of(table),
            order(8, 1, 8, seed=0),
            ranks=1,
            rank=0,
            budget=300,
            layout=Layout(packed),
            collate=collator(Layout(packed), 2),
        ),
        objective=objective_of(step.loss),
        on_log=lambda _: None,
    )
    trainer.train()
    expected: Counter[int] = Counter()
    for row in table.to_pylist():
        prompt, answers = row["prompt_ids"], (row["chosen_ids"], row["rejected_ids"])
        if packed:
            expected.update(prompt[:-1])
            expected.update([token for answer in answers for token in (prompt[-1], *answer[:-1])])
        else:
            expected.update([token for answer in answers for token in (*prompt, *answer)])
    padding = 0
    assert padding not in expected
    found = Counter(seen)
    del found[padding]
    assert found == expected


# --- stopped, killed, resumed -----------------------------------------------------------------------------------------


class StepProgram:
    """The step as a pod runs it: a process of its own, watched over HTTP."""

    def __init__(self, context: StepContext, folder: Path) -> None:
        self.address, self.message = folder / "address", folder / "message"
        arguments = ["--address-file", str(self.address), "--termination-message", str(self.message)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "selfalign_jobs", *entry_arguments(context.config, folder), *arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def progress(self) -> dict[str, object]:
        """`/progress`; empty before it is served."""
        try:
            with urllib.request.urlopen(f"http://{self.address.read_text()}/progress") as answer:
                document: dict[str, object] = json.load(answer)
                return document
        except (OSError, ValueError):
            return {}

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Until something is so; the program must not have ended before."""
        while not reached():
            assert self.process.poll() is None, "the program ended too early"
            time.sleep(0.005)

    def at_step(self, step: int) -> bool:
        """Whether training has finished that step."""
        now = self.progress()
        return now.get("phase") == "train" and int(str(now["done"])) >= step

    def ranks(self) -> list[int]:
        """Processes of rank.py that this program started."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for file in children for pid in file.read_text().split()]
        return [pid for pid in pids if b"selfalign_jobs.train.rank" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """Empty of a process that has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[StepContext], StepProgram]]:
    """Starts step programs, and leaves none behind."""
    started: list[StepProgram] = []

    def run(context: StepContext) -> StepProgram:
        started.append(StepProgram(context, tmp_path))
        return started[-1]

    yield run
    for program in started:
        program.process.kill()
        program.process.wait()


TWO_RANKS = {"nodes": 2, "zero_stage": 2, "micro_batch_tokens": 120}  # two pairs or so at once: gradients accumulate


@pytest.mark.parametrize("means", [{}, TWO_RANKS], ids=["one rank", "two ranks, ZeRO-2"])
def test_sigterm_saves_exits_75_and_the_next_attempt_ends_in_the_same_weights(
    tmp_path: Path,
    plan: Plan,
    pairs: pa.Table,
    unbroken: tuple[StepContext, Manifest],
    start: Callable[[StepContext], StepProgram],
    means: dict[str, object],
) -> None:
    context = trainings.context(plan, tmp_path / "run", pairs, **means)
    program = start(context)
    program.wait_for(lambda: program.at_step(3))
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait() == 75
    saved = newest(context.folder)
    assert saved is not None
    assert 3 <= saved.step < STEPS
    assert f"stopped after step {saved.step} of {STEPS}" in json.loads(program.message.read_text())["stopped"]
    reference = context.folder.read("reference/log_probs.parquet")

    again = trainings.context(plan, tmp_path / "run", pairs, attempt=2, **means)
    code, _ = ending(lambda: run_step(again))
    assert code == 0
    assert context.folder.read("reference/log_probs.parquet") == reference
    manifest = read_manifest(again.folder)
    assert manifest is not None
    assert [row["step"] for row in rows_of(again, manifest)] == list(range(1, STEPS + 1))
    assert shown_by_tensorboard(again, "train/loss") == pytest.approx([row["loss"] for row in rows_of(again, manifest)])
    expected, found = weights(unbroken[0]), weights(again)
    if not means:  # the same sums in the same order: bit by bit
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    for name in expected:  # two ranks sum the same pairs in another order
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=2e-3)


def test_kill_9_inside_a_save_costs_that_save_only_and_the_weights_end_the_same(
    tmp_path: Path,
    plan: Plan,
    pairs: pa.Table,
    unbroken: tuple[StepContext, Manifest],
    start: Callable[[StepContext], StepProgram],
) -> None:
    means = {"checkpoint_interval_seconds": 0, "keep_checkpoints": 2}
    context = trainings.context(plan, tmp_path / "run", pairs, **means)
    root = tmp_path / "run" / "iter-1" / "iter-1-train" / "checkpoints" / "attempt-1"
    program = start(context)

    def half_written() -> list[Path]:
        folders = root.glob("step-*") if root.exists() else []
        return [f for f in folders if any(f.rglob("*")) and not (f / CHECKPOINT_MANIFEST).exists()]

    program.wait_for(lambda: len(published(context.folder)) == 2)
    (rank,) = program.ranks()
    while True:  # hold the rank still, look, and kill it only in the middle of a save
        program.wait_for(lambda: bool(half_written()))
        os.kill(rank, signal.SIGSTOP)
        if any((f / "weights.pt").exists() for f in half_written()):
            break
        os.kill(rank, signal.SIGCONT)
    (half,) = half_written()
    program.process.kill()
    program.process.wait()
    while Path(f"/proc/{rank}").exists() and "Z" not in Path(f"/proc/{rank}/stat").read_text().split()[2]:
        time.sleep(0.005)  # it dies with the program, stopped as it is
    saved = newest(context.folder)
    assert saved is not None
    assert saved.step < int(half.name.removeprefix("step-"))

    again = trainings.context(plan, tmp_path / "run", pairs, attempt=2)
    code, _ = ending(lambda: run_step(again))
    assert code == 0
    assert len(shown_by_tensorboard(again, "train/loss")) == STEPS
    expected, found = weights(unbroken[0]), weights(again)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_belongs_to_a_number_of_ranks_is_refused_on_others_with_what_to_write(
    tmp_path: Path, pairs: pa.Table
) -> None:
    plan, _ = trainings.training(settings={"optimizer": Optimizer(type="adafactor")})
    context = trainings.context(plan, tmp_path, pairs)
    manifest = '{"attempt": 1, "step": 5, "ranks": 2, "zero_stage": 2, "seconds": 1.0, "files": []}'
    context.folder.write(f"checkpoints/attempt-1/step-5/{CHECKPOINT_MANIFEST}", manifest.encode())
    code, message = ending(lambda: run_step(context))
    assert code == 64
    assert (
        "was saved by 2 ranks with zeroStage 2, now there is 1 rank with no ZeRO, and what adafactor keeps of a tensor is of the "
        "former; write the former nodes, gpusPerNode, zeroStage and offload, or delete that folder" in message["error"]
    )


# --- other ranks, adapters, losses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("offload", ["None", "Optimizer"])
def test_lora_on_one_rank_trains_in_bfloat16(tmp_path: Path, pairs: pa.Table, offload: str) -> None:
    """The frozen weights are held in half the bytes; examples/sao-llama-3-8b-lora.yaml offloads, which is DeepSpeed's."""
    settings = {"lora": Lora(rank=8), "learning_rate": 5e-3, "global_batch_size": 16, "precision": "bfloat16"}
    plan, step = trainings.training(settings=settings | {"epochs": 4})
    context = trainings.context(plan, tmp_path, pairs, zero_stage=2, offload=offload)
    losses = [row["loss"] for row in rows_of(context, train(context, step))]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_lora_publishes_the_merged_model_and_the_adapter_beside_it(tmp_path: Path, pairs: pa.Table) -> None:
    lora = Lora(rank=4, alpha=8, target_modules=("q_proj", "v_proj"))
    plan, step = trainings.training(
        settings={"lora": lora, "learning_rate": 5e-3, "global_batch_size": 16, "epochs": 8}
    )
    context = trainings.context(plan, tmp_path, pairs)
    manifest = train(context, step)
    losses = [row["loss"] for row in rows_of(context, manifest)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    assert not context.folder.exists("reference")  # SimPO has none
    given = load_file(trainings.MODEL / "model.safetensors")
    changed = {name for name, tensor in weights(context).items() if not torch.equal(tensor, given[name])}
    assert changed == {f"model.layers.{n}.self_attn.{m}_proj.weight" for n in range(3) for m in "qv"}
    adapter = context.folder.local / "model" / "adapter" if context.folder.local else Path()
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 4
    assert len(load_file(adapter / "adapter_model.safetensors")) == 3 * 2 * 2


def test_an_unknown_target_module_is_exit_64_and_names_those_there(tmp_path: Path, pairs: pa.Table) -> None:
    plan, _ = trainings.training(settings={"lora": Lora(target_modules=("query",))})
    context = trainings.context(plan, tmp_path, pairs)
    code, message = ending(lambda: run_step(context))
    assert code == 64
    names = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    assert f"names query, which this model lacks; write some of {names}" in message["error"]
    assert not context.folder.exists("model")


def test_a_loss_or_gradient_that_is_no_number_ends_the_training_with_what_to_write(
    tmp_path: Path, pairs: pa.Table
) -> None:
    plan, _ = trainings.training(settings={"learning_rate": 1e30, "warmup_ratio": 0.0, "global_batch_size": 8})
    context = trainings.context(plan, tmp_path, pairs)
    code, message = ending(lambda: run_step(context))
    assert code == 64
    assert re.search(r"the training diverged: the (loss|gradient) of step \d+ is (nan|inf)", message["error"])
    assert "spec.training.learningRate" in message["error"]
    assert message["reason"] == "TrainingDiverged"
    assert not context.folder.exists("model")


def test_gpus_that_are_not_there_are_refused_before_anything_is_read(tmp_path: Path, plan: Plan) -> None:
    context = trainings.context(plan, tmp_path, pa.table({}), device="GPU", gpus_per_node=32)
    with pytest.raises(ConfigError, match=r"gpusPerNode: 32 GPUs are asked for .* write compute\.device: CPU"):
        train(context, trainings.training(loss=DPO)[1])
