"""All that a run's figures depend on, and the run as a file that makes them again."""

from __future__ import annotations

import copy
import re

import yaml

from selfalign_api.plan import Plan
from selfalign_api.plan_values import Json
from selfalign_jobs.accept.owner import Owner
from selfalign_jobs.places.sources import given_as, url_key
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.evidence import Evidence
from selfalign_jobs.report.section import Section

CHAT_TEMPLATE = "chat-template.jinja"


def lineage_section(evidence: Evidence) -> Section:
    """Models, data and steps with their digests, and the run's file."""
    plan = evidence.plan
    facts = {
        "plan": plan,
        "paper": recipe(plan.recipe).paper,
        "steps": evidence.steps,
        "digests": {facts.step.name: plan.step_digest(facts.step.name) for facts in evidence.steps},
        "run_file": run_file(evidence),
        "mounts": mounts(evidence),
        "chat_template": plan.models["policy"].chat_template,
        "chat_template_file": CHAT_TEMPLATE,
    }
    return Section("lineage", "Lineage", "lineage", facts)


def run_file(evidence: Evidence) -> str | None:
    """The run as a file with every value written out; None without the owner's file."""
    if evidence.owner is None:
        return None
    document = {
        "apiVersion": "selfalign.dev/v1alpha1",
        "kind": "SelfAlignmentRun",
        "metadata": {"name": evidence.plan.name, "namespace": evidence.plan.namespace},
        "spec": effective_spec(evidence.plan, evidence.owner),
    }
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))


def effective_spec(plan: Plan, owner: Owner) -> dict[str, Json]:
    """The method with every value written out.

    The owner's file has the digest of each content where the run had its URL: the URLs are the plan's.
    """
    spec = copy.deepcopy(owner.method)
    spec["model"]["url"] = plan.models["policy"].url
    if spec["model"].pop("chatTemplate", None) is not None:
        spec["model"]["chatTemplateUrl"] = f"./{CHAT_TEMPLATE}"
    for helper in spec.get("auxiliaryModels", ()):
        helper["url"] = plan.models[helper["name"]].url
    for name, source in plan.sources.items():
        if source.url is not None:
            given_as(spec, name)[url_key(name)] = source.url
    if "evaluation" not in plan.sources:
        spec["evaluation"].pop("prompts", None)  # no step reads them
    return spec


def mounts(evidence: Evidence) -> list[str]:
    """The claims that the run file names, for `--mount`."""
    return sorted(set(re.findall(r"pvc://([^/\s\"']+)/", run_file(evidence) or "")))
