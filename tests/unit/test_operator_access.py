"""Access to the apiserver: which proxy the environment names."""

from __future__ import annotations

import pytest

from selfalign_operator.kube.access import _proxy_of_environment


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "10.96.0.1,.svc")


@pytest.mark.parametrize("server", ["https://10.96.0.1:443", "https://kubernetes.default.svc", "http://127.0.0.1:8001"])
def test_no_proxy_where_none_is_asked_for(server: str) -> None:
    assert _proxy_of_environment(server) is None


def test_the_proxy_of_the_environment_for_any_other_server() -> None:
    assert _proxy_of_environment("https://cluster.example:6443") == "http://proxy.example:3128"
