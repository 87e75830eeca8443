"""Leases: each row's record counts once, whatever workers do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from selfalign_jobs.generate.leases import LEASE_SECONDS, UNIT_ROWS, Lease, Leases

WORKERS = ("a", "b", "c")


def leases_over(count: int) -> Leases:
    return Leases({"pairs": bytearray(count)})


def taken(leases: Leases, worker: str, now: float = 0.0) -> Lease:
    lease = leases.take(worker, UNIT_ROWS, now)
    assert lease is not None
    return lease


WHAT = ["take", "take", "finish", "late", "give back", "lose", "silence"]
ACTIONS = st.tuples(st.sampled_from(WHAT), st.sampled_from(WORKERS), st.integers(0, 99))


@given(rows=st.integers(0, 60), more=st.integers(0, 40), actions=st.lists(ACTIONS, max_size=40))
def test_each_row_counts_once_whatever_workers_do(rows: int, more: int, actions: list[tuple[str, str, int]]) -> None:
    leases = Leases({"pairs": bytearray(rows), "answers": bytearray(more)})
    now = 0.0
    out: list[tuple[int, str, list[int]]] = []
    counted: list[tuple[str, int]] = []

    def finish(number: int, table: str, handed: list[int]) -> None:
        counted.extend((table, row) for row in handed if leases.accept(number, row))

    for action, worker, which in actions:
        if action == "take" and (lease := leases.take(worker, 1 + which, now)) is not None:
            out.append((lease.number, lease.table, list(lease.rows)))
        elif action == "finish" and out:  # the lease may long be another's
            finish(*out[which % len(out)])
        elif action == "late" and out:
            number, table, handed = out[which % len(out)]
            finish(number, table, handed[which % len(handed) :])
        elif action == "give back" and out:
            number, _, handed = out[which % len(out)]
            for row in handed[which % len(handed) :]:
                leases.give_back(number, row)
        elif action == "lose":
            leases.drop(worker)
        elif action == "silence":
            now += LEASE_SECONDS / 2
            leases.renew(worker, now)
            for silent in leases.silent(now):
                leases.drop(silent)
    for worker in WORKERS:
        leases.drop(worker)
    while (lease := leases.take("a", UNIT_ROWS, now)) is not None:  # in the end somebody does what is left
        finish(lease.number, lease.table, list(lease.rows))
    assert (leases.waiting, leases.unfinished) == (0, 0)
    assert sorted(counted) == sorted(
        [("pairs", row) for row in range(rows)] + [("answers", row) for row in range(more)]
    )


def test_a_result_of_an_ended_lease_does_not_count() -> None:
    leases = leases_over(UNIT_ROWS)
    old = taken(leases, "a")
    leases.drop("a")
    new = taken(leases, "b")
    assert list(new.rows) == list(range(UNIT_ROWS))
    assert not leases.accept(old.number, 0)
    assert leases.accept(new.number, 0)
    assert not leases.accept(new.number, 0)


def test_rows_already_back_are_not_handed_out_again() -> None:
    leases = leases_over(4)
    lease = taken(leases, "a")
    leases.accept(lease.number, 1)
    leases.drop("a")
    assert list(taken(leases, "b").rows) == [0, 2, 3]


def test_a_word_from_the_holder_keeps_its_leases() -> None:
    leases = leases_over(2 * UNIT_ROWS)
    taken(leases, "a")
    taken(leases, "b")
    leases.renew("a", LEASE_SECONDS - 1)
    assert leases.silent(LEASE_SECONDS) == ["b"]


def test_lost_rows_go_out_before_fresh_ones() -> None:
    leases = leases_over(3 * UNIT_ROWS)
    lost = taken(leases, "a")
    leases.drop("a")
    assert list(taken(leases, "b").rows) == list(range(UNIT_ROWS))
    assert lost.number == 1


def test_rows_that_are_durable_are_not_handed_out() -> None:
    leases = Leases({"pairs": bytearray([1, 0, 1, 1, 0]), "answers": bytearray([1]), "verdicts": bytearray([0])})
    assert leases.unfinished == 3
    assert list(taken(leases, "a").rows) == [1, 4]
    assert taken(leases, "a").table == "verdicts"
    assert leases.take("a", UNIT_ROWS, 0.0) is None


def test_a_row_given_back_goes_to_another_and_no_longer_counts_for_the_first() -> None:
    leases = leases_over(3)
    first = taken(leases, "a")
    leases.give_back(first.number, 2)
    assert leases.held_by("a") == 2
    second = taken(leases, "b")
    assert list(second.rows) == [2]
    assert not leases.accept(first.number, 2)
    assert leases.accept(second.number, 2)
