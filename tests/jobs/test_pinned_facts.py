"""What is known of vLLM and transformers without importing them is what the installed ones say (`make pinned`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "requirements" / "pinned_facts.py"


@pytest.fixture(scope="module")
def facts() -> Any:
    spec = importlib.util.spec_from_file_location("pinned_facts", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_engine_arguments(facts: Any) -> None:
    assert facts.ENGINE_FIELDS.read_text() == facts.text_of(facts.engine_fields())


def test_architectures(facts: Any) -> None:
    assert facts.ARCHITECTURES.read_text() == facts.text_of(facts.architectures())
