"""The folder of an adapter, as PEFT and engines load it beside its base: weights, config, tokenizer, card."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from selfalign_api.places import HubModel, parse_place

# Whatever a tokenizer is made of: who loads the adapter prompts it as it was trained.
TOKENIZER = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_template")


def save_adapter(model: PeftModel, state: dict[str, Tensor], folder: Path, source: Path, base: str | None) -> None:
    """Write the adapter of a trained model; `base` is the URL of what it sits on, None where that has none of its own."""
    folder.mkdir(parents=True)
    weights = {name: tensor.contiguous().cpu() for name, tensor in get_peft_model_state_dict(model, state).items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = copy.deepcopy(model.peft_config["default"])
    config.base_model_name_or_path, config.revision = base_of(base)
    config.inference_mode = True
    config.save_pretrained(str(folder))
    for file in source.iterdir():
        if file.is_file() and file.name.startswith(TOKENIZER):
            shutil.copyfile(file, folder / file.name)


def base_of(url: str | None) -> tuple[str | None, str | None]:
    """Name and revision of a base as transformers loads it: a repository of the hub, else the URL for a person to read."""
    if url is None:
        return None, None
    place = parse_place(url)
    return (place.repo, place.revision) if isinstance(place, HubModel) else (url, None)
