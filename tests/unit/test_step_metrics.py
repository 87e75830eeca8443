"""What a step program says to Prometheus: series that are there once they mean something."""

from __future__ import annotations

from selfalign_jobs.step.progress import Progress

ROW = {
    "loss": 0.5,
    "margin": 1.0,
    "accuracy": 0.75,
    "learning_rate": 1e-6,
    "gradient_norm": 2.0,
    "computed_tokens_per_second": 9.0,
}


def value(progress: Progress, name: str, **labels: str) -> float | None:
    found: float | None = progress.metrics.registry.get_sample_value(f"selfalign_{name}", labels)
    return found


def test_a_generation_has_no_loss() -> None:
    assert value(Progress("i1-generate"), "train_loss") is None


def test_a_training_shows_its_last_step() -> None:
    progress = Progress("i1-train")
    progress.metrics.training.step(ROW)
    progress.metrics.training.step(ROW | {"loss": 0.25})
    assert (value(progress, "train_loss"), value(progress, "train_reward_accuracy")) == (0.25, 0.75)


def test_mfu_is_there_only_where_the_cards_peak_is_known() -> None:
    progress = Progress("i1-train")
    progress.metrics.training.step(ROW)
    assert (value(progress, "train_computed_tokens_per_second"), value(progress, "train_mfu")) == (9.0, None)
    progress.metrics.training.step(ROW | {"mfu": 0.4})
    assert value(progress, "train_mfu") == 0.4


def test_a_gradient_that_the_loss_scale_skips_is_not_shown() -> None:
    progress = Progress("i1-train")
    progress.metrics.training.step(ROW)
    progress.metrics.training.step(ROW | {"gradient_norm": float("inf")})
    assert value(progress, "train_gradient_norm") == 2.0


def test_a_phase_begins_where_the_last_attempt_ended() -> None:
    progress = Progress("i1-generate")
    progress.begin("generate", total=10, unit="records", done=4)
    assert value(progress, "progress_done", phase="generate", unit="records") == 4
    assert value(progress, "progress_total", phase="generate", unit="records") == 10


def test_only_a_unit_that_is_finished_is_a_move() -> None:
    progress = Progress("i1-generate")
    progress.begin("generate", total=10, unit="records")
    progress.metrics.moved.set(1.0)
    progress.advance(0)
    assert value(progress, "progress_moved_timestamp_seconds") == 1.0
    progress.advance(1)
    assert (value(progress, "progress_moved_timestamp_seconds") or 0) > 1.0


def test_an_engines_preemptions_are_counted_over_its_restarts() -> None:
    metrics = (progress := Progress("i1-generate")).metrics
    for preemptions in (2, 5):
        metrics.engine("engine-0", 0.5, preemptions)
    metrics.engine_lost("engine-0")
    assert value(progress, "engine_kv_cache_use", engine="engine-0") is None
    metrics.engine("engine-0", 0.25, 1)
    metrics.engine("engine-1", 0.75, 0)
    assert value(progress, "engine_preemptions_total", engine="engine-0") == 6
    assert value(progress, "engine_kv_cache_use", engine="engine-0") == 0.25
    assert value(progress, "engine_kv_cache_use", engine="engine-1") == 0.75
