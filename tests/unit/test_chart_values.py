"""The chart's values: their comments, types, table and schema say the same; what it copies is not stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from chart_files import CHART, comments, files
from chart_values import Values
from selfalign_api import __version__
from selfalign_api.crd import crd_yaml

TEXT = (CHART / "values.yaml").read_text(encoding="utf-8")
VALUES = yaml.safe_load(TEXT)


def leaves(values: Any, known: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of values that no comment explains, itself or above."""
    if path in known:
        return
    if isinstance(values, dict) and values:
        for name, inner in values.items():
            yield from leaves(inner, known, (*path, name))
    else:
        yield path


def test_every_value_has_a_comment() -> None:
    assert list(leaves(VALUES, set(comments(TEXT)))) == []


def test_every_type_has_its_value_in_the_file() -> None:
    typed = Values.model_validate_json(json.dumps(VALUES))
    assert Values.model_fields.keys() - typed.model_fields_set == {"global_"}  # a parent chart's


def test_the_schema_and_the_table_are_those_of_today() -> None:
    stale = [path.name for path, content in files() if path.read_text(encoding="utf-8") != content]
    assert stale == [], "run `make chart`"


def test_the_chart_carries_the_crd() -> None:
    copy = CHART / "files" / "crds" / "selfalignmentruns.yaml"
    assert copy.read_text(encoding="utf-8") == crd_yaml(), "run `make crd`"


def test_versions_are_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert {image.rpartition(":")[2] for image in VALUES["images"].values()} == {__version__}


def test_comments_are_read_above_their_keys_only() -> None:
    text = "# of nobody\n\n# of a\na:\n  # of b,\n  # two lines\n  b: 1\n  c: {d: 1}\n# of e\ne: []\n"
    assert comments(text) == {("a",): "of a", ("a", "b"): "of b, two lines", ("e",): "of e"}
