"""The command `selfalign-operator`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from selfalign_api import __version__
from selfalign_api.errors import ConfigError
from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.load import parse, read_file
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.outcome import Exit
from selfalign_operator.certificates import Certificates
from selfalign_operator.logs import log_to_stderr
from selfalign_operator.middle import Reconciliation
from selfalign_operator.process import OperatorProcess, Options
from selfalign_operator.rendering import Manifests

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def main(arguments: list[str] | None = None) -> int:
    """The entry point; returns the exit code: 0 stopped on request, 64 the configuration is wrong, 1 a failure."""
    given = parser().parse_args(arguments)
    log_to_stderr(given.log_format)
    try:
        config = parse(OperatorConfig, read_yaml(read_file(given.config), str(given.config)) or {}, "")
        asyncio.run(OperatorProcess(options_of(given), Reconciliation(config, Manifests())).run())
    except ConfigError as error:
        print(error, file=sys.stderr)
        return Exit.CONFIG
    except OSError as error:
        places = given.listen if given.metrics_tls is None else f"{given.listen} and {given.metrics_listen}"
        print(f"cannot serve at {places}: {error}", file=sys.stderr)
        return Exit.CONFIG
    return Exit.DONE


def options_of(given: argparse.Namespace) -> Options:
    """What the command line says. Raises ConfigError."""
    host, port = _address("--listen", given.listen)
    metrics_host, metrics_port = _address("--metrics-listen", given.metrics_listen)
    if given.metrics_client_certificates and given.metrics_tls is None:
        raise ConfigError.one("--metrics-client-certificates", "needs TLS; write --metrics-tls FOLDER too", None)
    clients = given.metrics_client_certificates
    return Options(
        kubeconfig=given.kubeconfig,
        namespaces=tuple(dict.fromkeys(given.namespace)),
        host=host,
        port=port,
        certificates=None if given.metrics_tls is None else Certificates(given.metrics_tls, clients),
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        leader_election=given.leader_election,
        lease_namespace=given.lease_namespace or _own_namespace(),
        workers=given.workers,
        progress_through_apiserver=given.progress_through_apiserver,
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(
        prog="selfalign-operator", description="Carries out SelfAlignmentRuns on a Kubernetes cluster."
    )
    whole.add_argument("--version", action="version", version=__version__)
    whole.add_argument("--config", type=Path, required=True, help="images and profiles, YAML")
    whole.add_argument(
        "--kubeconfig",
        type=Path,
        help="how to reach the cluster; without it: the pod's service account, else kubectl's way",
    )
    where = whole.add_mutually_exclusive_group()
    where.add_argument("--namespace", action="append", default=[], help="serve this namespace only; may be repeated")
    where.add_argument("--all-namespaces", action="store_true", help="serve every namespace (the default)")
    whole.add_argument("--listen", default=":8080", metavar="[HOST]:PORT", help="/metrics, /healthz and /readyz")
    whole.add_argument(
        "--metrics-tls",
        type=Path,
        metavar="FOLDER",
        help="serve /metrics by TLS only, at --metrics-listen, with tls.crt and tls.key of this folder, renewed there",
    )
    whole.add_argument("--metrics-listen", default=":8443", metavar="[HOST]:PORT", help="where, with --metrics-tls")
    whole.add_argument(
        "--metrics-client-certificates",
        action="store_true",
        help="who reads /metrics shows a certificate that ca.crt of that folder has signed",
    )
    whole.add_argument(
        "--no-leader-election", dest="leader_election", action="store_false", help="there is no other replica"
    )
    whole.add_argument("--lease-namespace", help="where the Lease is; without it: the pod's namespace, else default")
    whole.add_argument("--workers", type=_count, default=16, help="runs that are reconciled at once")
    whole.add_argument(
        "--progress-through-apiserver",
        action="store_true",
        help="ask pods how far they are through the apiserver: for an operator outside of the cluster's network",
    )
    whole.add_argument("--log-format", choices=("text", "json"), default="text")
    return whole


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _address(flag: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if ":" not in text or not port.isdecimal() or int(port) > 65535:
        said = "is no [HOST]:PORT; write :8080 for all addresses of both families, 127.0.0.1:8080, or [::1]:8080"
        raise ConfigError.one(flag, said, text)
    return host.strip("[]"), int(port)


def _own_namespace() -> str:
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        return "default"


if __name__ == "__main__":
    sys.exit(main())
