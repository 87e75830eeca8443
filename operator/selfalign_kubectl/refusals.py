"""What an apiserver refuses, in words: which right is missing and how it is given, which run is meant, what to install."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from selfalign_api.errors import ConfigError
from selfalign_operator.kube.resources import RUN, Resource

USER = re.compile(r'User "([^"]+)" cannot')
ACCOUNT = re.compile(r"system:serviceaccount:([^:]+):([^:]+)")
INSTALL = "install the chart (charts/selfalign-operator), or name the cluster that has it: --context, --kubeconfig"


@dataclass(frozen=True)
class Call:
    """One call, as RBAC names it. Without a namespace: of all of them."""

    verb: str
    resource: Resource
    namespace: str | None
    name: str | None = None
    part: str | None = None  # log, of a pod

    @property
    def path(self) -> str:
        """On the apiserver."""
        if self.namespace is None:
            return f"{self.resource.root}/{self.resource.plural}"
        return self.resource.path(self.namespace, self.name, self.part)

    @property
    def kind(self) -> str:
        """As `kubectl create role --resource=` takes it."""
        group = self.resource.api_version.rpartition("/")[0]
        plural = self.resource.plural + (f".{group}" if group else "")
        return plural if self.part is None else f"{plural}/{self.part}"

    def __str__(self) -> str:
        """In words."""
        where = "in all namespaces" if self.namespace is None else f"in namespace {self.namespace}"
        return " ".join(filter(None, (self.verb, self.kind, self.name, where)))


class Unreachable(ConnectionError):
    """No answer, or none of an apiserver; the same may succeed later."""

    @classmethod
    def of(cls, server: str, error: Exception) -> Self:
        """The apiserver's address, and why."""
        reason = getattr(error, "reason", None) or error
        said = re.sub(r"^\w*Connection\([^)]*\): |^<[^>]*>: ", "", str(reason))
        return cls(f"{server} does not answer ({said}); look at the cluster, at --context and at https_proxy")


class Refused(Exception):
    """The apiserver's answer was no."""

    def __init__(self, call: Call, code: int, reason: str, message: str, found_kind: bool) -> None:
        super().__init__(f"{call}: {code} {message}")
        self.call = call
        self.code = code
        self.reason = reason
        self.message = message
        self.found_kind = found_kind  # the cluster has such objects, and says so of a missing one

    @classmethod
    def of(cls, call: Call, code: int, content: bytes) -> Self:
        """The refusal that an answer is; its body is a Status, unless something else answered (a proxy)."""
        try:
            status: Any = json.loads(content)
        except ValueError:
            status = None
        if not isinstance(status, dict):
            status = {"message": content[:200].decode(errors="replace").strip()}
        details = status.get("details")
        named = isinstance(details, dict) and bool(details.get("kind"))
        return cls(call, code, str(status.get("reason", "")), str(status.get("message", "")), named)


def not_installed(refused: Refused) -> ConfigError:
    """The cluster has no runs at all."""
    return ConfigError.one("cluster", f"it has no {refused.call.kind}; {INSTALL}")


def in_words(refused: Refused) -> ConfigError:
    """What a person is told."""
    call = refused.call
    match refused.code:
        case 401:
            return ConfigError.one("--kubeconfig", "the cluster does not know you (401): log in again")
        case 403 if USER.search(refused.message):
            return ConfigError.one("rights", missing_right(call, refused.message))
        case 404 if call.resource == RUN and not refused.found_kind:
            return not_installed(refused)
        case 409 if refused.reason == "Conflict" and call.verb == "patch":
            return ConfigError.one("apply", f"{refused.message}; give --force-conflicts to take these fields over")
    return ConfigError.one(str(call), refused.message or f"the answer is {refused.code}")


def missing_right(call: Call, message: str) -> str:
    """Who may not do what, and how whoever may can allow it."""
    found = USER.search(message)
    user = found[1] if found is not None else "you"
    if (account := ACCOUNT.fullmatch(user)) is not None:
        subject = f"--serviceaccount={account[1]}:{account[2]}"
    else:
        subject = f"--user={user}"
    name = f"selfalign-{call.verb}-{call.resource.plural}" + (f"-{call.part}" if call.part else "")
    cluster, where = ("cluster", "") if call.namespace is None else ("", f" -n {call.namespace}")
    return (
        f"{user} may not {call}; an administrator allows it by "
        f"`kubectl create {cluster}role {name} --verb={call.verb} --resource={call.kind}{where} && "
        f"kubectl create {cluster}rolebinding {name} --{cluster}role={name} {subject}{where}`"
        + ("; without -A one namespace is enough" if call.namespace is None else "")
    )


def no_such_run(name: str, namespace: str, there: Sequence[str]) -> ConfigError:
    """With the names that are near, or all that there are."""
    near = difflib.get_close_matches(name, there, n=3, cutoff=0.5)
    if near:
        words = f"did you mean {' or '.join(near)}?"
    elif there:
        words = f"there are {', '.join(there[:8])}{' …' if len(there) > 8 else ''}"
    else:
        words = "there is none here; give -n NAMESPACE, or see `kubectl selfalign list -A`"
    return ConfigError.one("NAME", f"is no run in namespace {namespace}; {words}", name)
