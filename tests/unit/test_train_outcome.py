"""What ranks leave in files becomes the program's error, so that exit codes 64 and 75 survive the elastic agent."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from selfalign_api.errors import ConfigError
from selfalign_jobs.step.context import Stopped, Summary
from selfalign_jobs.step.ending import ending
from selfalign_jobs.step.failure import Failed
from selfalign_jobs.train.job import Outcome, error_of, outcome_of, read_outcomes, reserve_outcome, write_outcome

DONE = Outcome(rank=0, kind="done")


def raised(error: Exception | None) -> Summary:
    assert error is not None
    raise error


CONFIG = ConfigError.one("spec.training.lora.targetModules", "names x", ["x"])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CONFIG, ConfigError),
        (Stopped("at step 3"), Stopped),
        (OSError(errno.ENOSPC, "no space"), Failed),
        (ZeroDivisionError("oops"), Failed),
    ],
)
def test_an_error_of_a_rank_is_the_programs(tmp_path: Path, error: Exception, kind: type[Exception]) -> None:
    write_outcome(tmp_path, outcome_of(1, error))
    write_outcome(tmp_path, DONE)
    found = error_of(read_outcomes(tmp_path), range(2), 2, stop_asked=False)
    assert type(found) is kind
    assert str(error) in str(found)


def test_a_wrong_configuration_outweighs_the_failures_that_follow_from_it(tmp_path: Path) -> None:
    outcomes = [outcome_of(0, RuntimeError("connection lost")), outcome_of(1, CONFIG)]
    assert str(error_of(outcomes, range(2), 2, stop_asked=False)) == str(CONFIG)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "no space"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 320 vs 210"),
        RuntimeError("PytorchStreamWriter failed writing file data/12: file write failed"),
    ],
)
def test_a_full_disk_of_a_rank_is_one_of_the_step(error: Exception) -> None:
    outcomes = [outcome_of(0, error), outcome_of(1, RuntimeError("Connection closed by peer [127.0.0.1]:2345"))]
    code, message = ending(lambda: raised(error_of(outcomes, range(2), 2, stop_asked=False)))
    assert (code, str(error) in message["stopped"]) == (75, True)


def test_the_outcome_of_a_rank_has_room_on_a_full_disk(tmp_path: Path) -> None:
    """The file is written before there is anything to say, and only its content changes later."""
    reserve_outcome(tmp_path, 0)
    (before,) = tmp_path.iterdir()
    size, inode = before.stat().st_size, before.stat().st_ino
    write_outcome(tmp_path, outcome_of(0, ValueError("x" * 1400)))
    (after,) = tmp_path.iterdir()
    assert (after.stat().st_size, after.stat().st_ino) == (size, inode)
    assert read_outcomes(tmp_path)[0].message.startswith("ValueError: xxx")


def test_no_outcome_is_read_before_it_is_said(tmp_path: Path) -> None:
    reserve_outcome(tmp_path, 0)
    assert read_outcomes(tmp_path) == []


def test_the_failure_of_a_rank_is_told_before_what_followed_from_it(tmp_path: Path) -> None:
    outcomes = [
        outcome_of(0, RuntimeError("Connection closed by peer [127.0.0.1]:2345")),
        outcome_of(2, Stopped("stopped at step 3")),
        outcome_of(3, RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    ]
    code, message = ending(lambda: raised(error_of(outcomes, range(4), 4, stop_asked=False)))
    assert code == 1
    assert message["error"].startswith("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB (rank 3 of 4)")
    assert "lower spec.compute.training.microBatchTokens" in message["error"]


def test_a_rank_that_died_silently_is_a_failure() -> None:
    assert "rank 1 of 2 died without a word" in str(error_of([DONE], range(2), 2, stop_asked=False))


def test_the_silent_rank_is_named_beside_the_one_that_lost_it() -> None:
    found = str(error_of([outcome_of(0, RuntimeError("connection lost"))], range(2), 2, stop_asked=False))
    assert "rank 1 of 2 died without a word" in found
    assert "connection lost" in found


def test_ranks_killed_by_a_stop_before_they_listened_were_stopped() -> None:
    assert isinstance(error_of([], range(2), 2, stop_asked=True), Stopped)


def test_all_done_is_no_error() -> None:
    assert error_of([DONE], range(1), 1, stop_asked=True) is None


def test_each_node_of_a_gang_answers_for_its_own_ranks() -> None:
    done = [Outcome(rank=rank, kind="done") for rank in (2, 3)]
    assert error_of(done, range(2, 4), 4, stop_asked=False) is None
    assert "rank 3 of 4 died" in str(error_of(done[:1], range(2, 4), 4, stop_asked=False))
