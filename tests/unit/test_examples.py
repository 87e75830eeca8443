"""The examples for GPUs are runs that a cluster with the example's profiles takes, and that fit the GPUs which they name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from sizing import (
    CARDS,
    ENGINE_RESERVE,
    MODELS,
    SMALL_ENGINE_RESERVE,
    fitting_stage,
    per_token_mib,
    sequences,
    training,
)

from chart_files import CHART
from chart_values import Values
from selfalign_api.load import load_run, parse
from selfalign_api.merge import merge
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.rules import check_rules
from selfalign_api.run import SelfAlignmentRun
from selfalign_api.training_values import TrainSettings
from selfalign_jobs.accept.resolve import method_of, method_values
from selfalign_jobs.train.settings import rank_count, zero_stage_of
from selfalign_operator.render import as_view, rendered
from selfalign_operator.resolve import effective_run

EXAMPLES = Path(__file__).parents[2] / "examples"
VALUES = yaml.safe_load((EXAMPLES / "values-gpu.yaml").read_text(encoding="utf-8"))
CONFIG = parse(OperatorConfig, {part: VALUES[part] for part in ("images", "profiles", "network")}, "")
ON_GPUS = sorted(EXAMPLES.glob("sao-*b*.yaml"))
NAMES = {"google/gemma-2-9b-it": "Gemma-2-9B", "Meta-Llama-3-8B-Instruct": "Llama-3-8B"}

each_of_them = pytest.mark.parametrize("file", ON_GPUS, ids=lambda file: file.stem)


def card_of(run: SelfAlignmentRun) -> float:
    """GiB of a GPU of the profile that the run names."""
    assert run.spec.compute is not None and run.spec.compute.profile_name is not None
    return CARDS["80 GB" if run.spec.compute.profile_name == "a100-80gb" else "24 GB"]


def settings_of(run: SelfAlignmentRun) -> TrainSettings:
    return method_of(method_values(run, "GPU", {}, Path())).training.settings


def test_the_chart_takes_the_values() -> None:
    theirs = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    values = Values.model_validate_json(json.dumps(merge(theirs, VALUES)))
    assert set(values.profiles) == {"default", "a100-80gb", "l4-24gb"}


@each_of_them
def test_the_rules_hold_and_the_cluster_would_make_its_pods(file: Path) -> None:
    run = load_run(file)
    check_rules(run)
    steps = 3 * (run.spec.iterations or 1) + (run.spec.output is not None)  # generate, train, evaluate; publish
    means = effective_run(as_view(run), CONFIG).means
    gang = max(means.generation.replicas, means.training.nodes, means.evaluation.replicas) > 1
    objects = ["Service", "ConfigMap", "Secret", "NetworkPolicy"] if gang else ["ConfigMap", "NetworkPolicy"]
    kinds = [*objects, *["Job"] * (1 + steps)]
    assert [each["kind"] for each in rendered(run, CONFIG)] == kinds


@each_of_them
def test_its_batch_can_be_dealt_to_its_ranks(file: Path) -> None:
    run = load_run(file)
    means, settings = effective_run(as_view(run), CONFIG).means.training, settings_of(run)
    assert settings.global_batch_size >= rank_count(means)


@each_of_them
def test_it_fits_its_gpus_as_its_comment_says(file: Path) -> None:
    run, said = load_run(file), file.read_text(encoding="utf-8")
    means, settings = effective_run(as_view(run), CONFIG).means, settings_of(run)
    shape = MODELS[next(name for url, name in NAMES.items() if url in run.spec.model.url)]
    small = "max_num_seqs" in means.generation.engine_args
    room = sequences(shape, card_of(run), 1, SMALL_ENGINE_RESERVE if small else ENGINE_RESERVE)
    ranks, lora = rank_count(means.training), settings.lora is not None
    asked = zero_stage_of(means.training)
    stage = asked or fitting_stage(shape, card_of(run), ranks, longest=2 * settings.max_length_tokens, lora=lora)
    states = training(shape, ranks, zero=stage, offload=means.training.offload, lora=lora)
    assert set(re.findall(r"training on ZeRO-(\d)", said)) <= {str(stage)}
    pair = per_token_mib(shape) * 2 * settings.max_length_tokens / 1024
    assert room >= 8
    assert states + pair < card_of(run)
    figures = {f"{number:.1f}" for number in (states, pair, shape.weights)} | {str(room)}
    told = re.findall(
        r"([\d.]+) GiB of (?:states|weights)|([\d.]+) GiB for\s+#?\s*the longest|room for (\d+) seq|for (\d+) seq", said
    )
    assert {figure for groups in told for figure in groups if figure} <= figures
