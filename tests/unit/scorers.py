"""Tiny models that write nothing, as people have them: a …ForSequenceClassification, a pair ranker in PairRM's form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from model_folders import TINY
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DebertaV2Config,
    PreTrainedModel,
)

from selfalign_jobs.generate.ranker_engine import PairRanker

ADDED = ("[CLS]", "[SEP]", "[PAD]", "<|source|>", "<|candidate1|>", "<|candidate2|>")
PREFIX_FIELDS = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")


def reward_model(folder: Path, labels: int = 1, seed: int = 0) -> Path:
    """The tiny model with a random scoring head: a LlamaForSequenceClassification."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(TINY, num_labels=labels, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    model.config.pad_token_id = 0
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(TINY / name, folder / name)
    return folder


def pair_ranker(folder: Path, seed: int = 0) -> Path:
    """A random DeBERTa of width 32 with the head and the tokens of PairRM-hf."""
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ADDED])
    config = DebertaV2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        relative_attention=True,
        max_position_embeddings=512,
        position_buckets=32,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        pad_token_id=tokenizer.token_to_id("[PAD]"),
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    ranker = PairRanker(config, 1)
    folder.mkdir(parents=True)
    save_file(ranker.state_dict(), str(folder / "model.safetensors"))
    ids = {name: tokenizer.token_to_id(token) for name, token in zip(PREFIX_FIELDS, ADDED[3:], strict=True)}
    said = config.to_dict() | ids | {"n_tasks": 1, "architectures": ["DebertaV2PairRM"]}
    (folder / "config.json").write_text(json.dumps(said))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | names))
    return folder


def classifier(folder: Path, labels: tuple[str, ...] = ("safe", "rude", "wrong"), seed: int = 0) -> Path:
    """A random BERT with a head of three labels, as toxicity classifiers are: no chat template, answers in [CLS] … [SEP]."""
    named = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    return _bert(folder, BertForSequenceClassification, seed, **named)


def encoder(folder: Path, seed: int = 0) -> Path:
    """A random BERT without a head, as sentence encoders are."""
    return _bert(folder, BertModel, seed)


def _bert(folder: Path, of: type[PreTrainedModel], seed: int, **named: Any) -> Path:
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ADDED[:3]])
    cls, sep, pad = (tokenizer.token_to_id(token) for token in ADDED[:3])
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,  # heads of 32: vLLM's attention on CPU has none of 16
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=pad,
        initializer_range=0.3,
        **named,
    )
    torch.manual_seed(seed)
    of(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | names))
    return folder
