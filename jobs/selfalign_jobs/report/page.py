"""The report as one HTML file: nothing is loaded, nothing is run, every text of a model is escaped."""

from __future__ import annotations

import copy
import re
from functools import cache
from importlib import resources
from itertools import groupby

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.evidence import Evidence
from selfalign_jobs.report.result import signed
from selfalign_jobs.report.scale import count, duration, number
from selfalign_jobs.report.sections import all_sections
from selfalign_jobs.report.tiles import tiles
from selfalign_jobs.step.second_look import percent

CHAT_TEMPLATE = "chat-template.jinja"
CUT = 700  # characters of a text that are shown at once; the rest unfolds


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("selfalign_jobs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "percent": percent,
        "number": number,
        "duration": duration,
        "signed": signed,
        "printable": printable,
    }
    return environment


def render(evidence: Evidence) -> str:
    """The page."""
    style = resources.files("selfalign_jobs.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    plan = evidence.plan
    sections = list(all_sections(evidence))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            plan=plan,
            paper=recipe(plan.recipe).paper,
            finished=evidence.finished,
            tiles=list(tiles(evidence)),
            sections=sections,
            groups=[(group, list(members)) for group, members in groupby(sections, lambda section: section.group)],
            notes=[(section, note) for section in sections for note in section.notes],
            steps=evidence.steps,
            digests={facts.step.name: plan.step_digest(facts.step.name) for facts in evidence.steps},
            run_file=run_file(evidence),
            mounts=mounts(evidence),
            chat_template=plan.models["policy"].chat_template,
            chat_template_file=CHAT_TEMPLATE,
            style=Markup(style),  # ours, and it holds no markup
            cut=CUT,
        )
    )


def run_file(evidence: Evidence) -> str | None:
    """The run as a file with every value written out; None without the owner's file.

    The owner's file has the digest of each content where the run had its URL: the URLs are the plan's.
    """
    if evidence.owner is None:
        return None
    plan = evidence.plan
    spec = copy.deepcopy(evidence.owner.method)
    spec["model"]["url"] = plan.models["policy"].url
    if spec["model"].pop("chatTemplate", None) is not None:
        spec["model"]["chatTemplateUrl"] = f"./{CHAT_TEMPLATE}"
    for helper in spec.get("auxiliaryModels", ()):
        helper["url"] = plan.models[helper["name"]].url
    for name, source in plan.sources.items():
        if source.url is not None:
            given = spec["evaluation"]["prompts"] if name == "evaluation" else spec["data"][name]
            given["url"] = source.url
    if "evaluation" not in plan.sources:
        spec["evaluation"].pop("prompts", None)  # no step reads them
    document = {
        "apiVersion": "selfalign.dev/v1alpha1",
        "kind": "SelfAlignmentRun",
        "metadata": {"name": plan.name, "namespace": plan.namespace},
        "spec": spec,
    }
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))


def mounts(evidence: Evidence) -> list[str]:
    """The claims that the run file names, for `--mount`."""
    return sorted(set(re.findall(r"pvc://([^/\s\"']+)/", run_file(evidence) or "")))


def printable(text: str) -> str:
    """Control characters by their numbers, so that no text of a model hides or turns what stands beside it."""
    return _CONTROL.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
