"""What a user reads when the configuration is wrong."""

import pickle

import pytest

from selfalign_api.errors import ConfigError, Problem, shown


def test_a_problem_is_one_line_with_path_value_and_what_to_write() -> None:
    error = ConfigError.one("spec.compute.training.zeroStage", "is not one of 0, 1, 2, 3", 4)
    assert str(error) == "spec.compute.training.zeroStage: 4 is not one of 0, 1, 2, 3"


def test_a_message_that_is_a_sentence_follows_a_short_value() -> None:
    assert (
        str(ConfigError.one("spec.model.url", "write hf://ORG/NAME", "a/b"))
        == "spec.model.url: a/b: write hf://ORG/NAME"
    )


def test_a_map_or_list_is_not_printed() -> None:
    assert str(ConfigError.one("spec.data", "write data.personas", {"a": 1})) == "spec.data: write data.personas"


def test_every_problem_is_printed_on_its_own_line() -> None:
    error = ConfigError((Problem("a", 1, "is not text"), Problem("b", None, "is missing")))
    assert str(error) == "a: 1 is not text\nb: is missing"


def test_an_error_without_a_problem_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ConfigError(())


def test_the_error_survives_a_process_border() -> None:
    error = ConfigError.one("a", "is not text", 1)
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        ("", '""'),
        ("a\nb", '"a\\nb"'),
        (True, "true"),
        (1e-6, "1e-06"),
        (3.0, "3"),
        ({"a": None}, '{"a": null}'),
        ("y" * 200, "y" * 119 + "…"),
    ],
)
def test_a_value_is_shown_as_yaml_has_it_on_one_short_line(value: object, text: str) -> None:
    assert shown(value) == text
