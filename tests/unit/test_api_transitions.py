"""What may change in a run: life at any time, compute while it is suspended, the method never."""

import pytest
from rule_changes import CHANGES, Change

from selfalign_api.errors import ConfigError
from selfalign_api.load import parse_spec
from selfalign_api.transition_rules import TRANSITION_RULES, check_transition


def broken_by(change: Change) -> tuple[str, ...]:
    try:
        check_transition(parse_spec(change.old), parse_spec(change.new))
    except ConfigError as error:
        return tuple(problem.path.removeprefix("spec.") for problem in error.problems)
    return ()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.about)
def test_a_change_is_taken_or_refused(change: Change) -> None:
    assert broken_by(change) == change.broken


def test_every_rule_about_a_change_has_a_case() -> None:
    assert {rule.field for rule in TRANSITION_RULES} == {field for change in CHANGES for field in change.broken}


def test_a_refused_change_is_told_with_what_to_write() -> None:
    (refused,) = (change for change in CHANGES if change.about == "method and compute changed")
    with pytest.raises(ConfigError) as caught:
        check_transition(parse_spec(refused.old), parse_spec(refused.new))
    assert str(caught.value).splitlines() == [
        "spec.seed: what a run computes is fixed; write the change in a run with another name, and storage.reuseFrom: "
        "[URL OF THIS RUN] there so that no finished step is done again",
        "spec.compute: compute may change only while the run is suspended; write suspend: true first, or change it in "
        "the write that sets suspend: false",
    ]
