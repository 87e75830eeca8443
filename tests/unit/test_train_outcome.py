"""What ranks leave in files becomes the program's error, so that exit codes 64 and 75 survive the elastic agent."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from selfalign_api.errors import ConfigError
from selfalign_jobs.step.context import Stopped
from selfalign_jobs.train.job import Outcome, error_of, outcome_of, read_outcomes, write_outcome

DONE = Outcome(rank=0, kind="done")
CONFIG = ConfigError.one("spec.training.lora.targetModules", "names x", ["x"])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CONFIG, ConfigError),
        (Stopped("at step 3"), Stopped),
        (OSError(errno.ENOSPC, "no space"), OSError),
        (ZeroDivisionError("oops"), RuntimeError),
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


def test_a_full_disk_keeps_its_number() -> None:
    found = error_of([outcome_of(0, OSError(errno.ENOSPC, "no space"))], range(1), 1, stop_asked=False)
    assert isinstance(found, OSError)
    assert found.errno == errno.ENOSPC


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
