"""Rules of places: which URL may stand where."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from selfalign_api.base import ApiModel
from selfalign_api.evaluation import Answers
from selfalign_api.generation import Role
from selfalign_api.life import Tracking
from selfalign_api.method import AuxiliaryModel, Model, Output, Source, Storage
from selfalign_api.places import meant
from selfalign_api.rule_table.rule import M, Rule, given

_ANYWHERE = re.compile(r"(hf|s3|gs|pvc|file)://.+")
_STORAGE = re.compile(r"(s3|gs|pvc|file)://.+")
_ADDRESS = re.compile(r"https?://[^/@?#]+(/[^@?#]*)?")
_BESIDE = ("./", "../")
_REPOSITORY = "[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"


def _matches(pattern: re.Pattern[str], url: str | None) -> bool:
    return url is None or pattern.match(url) is not None


def _is_beside(url: str | None) -> bool:
    return url is not None and url.startswith(_BESIDE)


def _place(on: type[M], field: str, get: Callable[[M], str | None], hub: str = "hf://ORG/NAME") -> Rule[M]:
    """The rule that a URL is in our notation; one machine takes a path beside the run file too."""
    optional = not on.model_fields[_python_name(on, field)].is_required()
    return Rule(
        on,
        field,
        (given(field) if optional else "") + f"self.{field}.matches('^(hf|s3|gs|pvc|file)://.+')",
        f"write {hub}, s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH, or file:///PATH for a folder inside the "
        "image; a relative path works only with selfalign run",
        lambda it: _matches(_ANYWHERE, get(it)),
        lambda it: _is_beside(get(it)),
        (lambda it: meant(get(it) or "", hub)) if field == "url" else (lambda _: None),  # templates have no page
    )


def _python_name(on: type[ApiModel], field: str) -> str:
    return next(name for name, info in on.model_fields.items() if info.alias == field)


def _no_dataset(on: type[M], get: Callable[[M], str]) -> Rule[M]:
    return Rule(
        on,
        "url",
        "!self.url.startsWith('hf://datasets/')",
        "this is a dataset; for a model write hf://ORG/NAME or hf://ORG/NAME@REVISION",
        lambda it: not get(it).startswith("hf://datasets/"),
    )


def _no_model(on: type[M], left_out: str, get: Callable[[M], str]) -> Rule[M]:
    return Rule(
        on,
        "url",
        left_out + "!self.url.startsWith('hf://') || self.url.startsWith('hf://datasets/')",
        "this is a model; for data write hf://datasets/ORG/NAME or hf://datasets/ORG/NAME/FILE",
        lambda it: not get(it).startswith("hf://") or get(it).startswith("hf://datasets/"),
    )


def _output(field: str, get: Callable[[Output], str | None], hub: str) -> Rule[Output]:
    """The rule that a result goes to a folder, or to a repository of the hub: to its branch main, which is what people read."""
    repository = f"hf://{hub}{_REPOSITORY}"
    anywhere = re.compile(rf"(s3|gs|pvc|file)://.+|{repository}$")
    return Rule(
        Output,
        field,
        given(field) + f"self.{field}.matches('^((s3|gs|pvc|file)://.+|{repository})$')",
        f"write the folder that it is copied to, s3://BUCKET/PATH, gs://BUCKET/PATH or pvc://CLAIM/PATH, or the repository of "
        f"the hub, hf://{hub}ORG/NAME; a relative path works only with selfalign run",
        lambda output: _matches(anywhere, get(output)),
        lambda output: _is_beside(get(output)),
        lambda output: meant(get(output) or "", f"hf://{hub}ORG/NAME"),
    )


PLACE_RULES: tuple[Rule[Any], ...] = (
    _place(Model, "url", lambda model: model.url),
    _place(AuxiliaryModel, "url", lambda model: model.url),
    _place(Model, "chatTemplateUrl", lambda model: model.chat_template_url),
    _place(Role, "templateUrl", lambda role: role.template_url),
    _place(Source, "url", lambda source: source.url, "hf://datasets/ORG/NAME"),
    _place(Answers, "url", lambda answers: answers.url, "hf://datasets/ORG/NAME"),
    _no_dataset(Model, lambda model: model.url),
    _no_dataset(AuxiliaryModel, lambda model: model.url),
    _no_model(Source, given("url"), lambda source: source.url or ""),
    _no_model(Answers, "", lambda answers: answers.url),
    Rule(
        Storage,
        "url",
        given("url") + "self.url.matches('^(s3|gs|pvc|file)://.+')",
        "a run appends to its storage, which the hub cannot do; write s3://BUCKET/PATH, gs://BUCKET/PATH or "
        "pvc://CLAIM/PATH; a relative path works only with selfalign run",
        lambda storage: _matches(_STORAGE, storage.url),
        lambda storage: _is_beside(storage.url),
    ),
    _output("url", lambda output: output.url, ""),
    _output("datasetUrl", lambda output: output.dataset_url, "datasets/"),
    Rule(
        Output,
        "visibility",
        given("visibility")
        + "[has(self.url) ? self.url : '', has(self.datasetUrl) ? self.datasetUrl : ''].exists(u, u.startsWith('hf://'))",
        "is that of a repository of the hub, and none is written; write url: hf://ORG/NAME or datasetUrl: "
        "hf://datasets/ORG/NAME, or remove visibility",
        lambda output: (
            output.visibility is None
            or any((url or "").startswith("hf://") for url in (output.url, output.dataset_url))
        ),
    ),
    Rule(
        Output,
        "adapter",
        given("adapter") + "has(self.url)",
        "says what goes to output.url, which is not written; write it, or remove adapter",
        lambda output: output.adapter is None or output.url is not None,
    ),
    Rule(
        Tracking,
        "url",
        "self.url.matches('^https?://[^/@?#]+(/[^@?#]*)?$')",
        "write the address of the tracking server, http://HOST:PORT or https://HOST/PATH; its name and password, or its token, "
        "go into a Secret that credentials names (on one machine: into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
        "or MLFLOW_TRACKING_TOKEN)",
        lambda tracking: _ADDRESS.fullmatch(tracking.url) is not None,
    ),
    Rule(
        Storage,
        "reuseFrom",
        given("reuseFrom") + "self.reuseFrom.all(u, u.matches('^(s3|gs|pvc|file)://.+'))",
        "write the folders of other runs: s3://BUCKET/PATH, gs://BUCKET/PATH or pvc://CLAIM/PATH; a relative path "
        "works only with selfalign run",
        lambda storage: all(_matches(_STORAGE, url) for url in storage.reuse_from or ()),
        lambda storage: all(_matches(_STORAGE, url) or _is_beside(url) for url in storage.reuse_from or ()),
    ),
)
