"""Which Secrets open the places of a run: for each URL that of the longest prefix that fits."""

from __future__ import annotations

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.platform import is_under, opened_urls
from selfalign_api.run import Spec


def secrets_of(spec: Spec) -> tuple[str, ...]:
    """Names of the Secrets whose keys are variables in every pod of the run."""
    return tuple(dict.fromkeys(name for names in _by_scheme(spec).values() for name in names))


def refuse_shadowing(spec: Spec) -> None:
    """ConfigError when places of one kind need two Secrets: both would set the same variables (AWS_…, HF_TOKEN)."""
    problems = [
        Problem(
            "spec.credentials",
            None,
            f"the run's {scheme}:// places need {len(names)} Secrets ({', '.join(names)}), and the variables of one would "
            f"hide the other's; write one entry whose Secret opens them all",
        )
        for scheme, names in _by_scheme(spec).items()
        if len(names) > 1
    ]
    if problems:
        raise ConfigError(problems)


def _by_scheme(spec: Spec) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for url in opened_urls(spec).values():
        fitting = [entry for entry in spec.credentials or () if is_under(url, entry.url_prefix)]
        if not fitting:
            continue
        names = found.setdefault(url.partition("://")[0], [])
        secret = max(fitting, key=lambda entry: len(entry.url_prefix)).secret_name
        if secret not in names:
            names.append(secret)
    return found
