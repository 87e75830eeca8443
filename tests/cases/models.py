"""Models: what a folder says is known before an engine starts."""

from __future__ import annotations

from cases.case import Case, with_model

CASES = [
    Case("a folder as it is saved", with_model({})),
    Case("no config", with_model({"config.json": None}), code=64, says=("spec.model.url", "has no config.json")),
    Case("no weights", with_model({"model.safetensors": None}), code=64, says=("has no *.safetensors",)),
]
