"""/metrics by TLS: who may read it, and certificates that are renewed while the operator runs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from selfalign_api.errors import ConfigError
from selfalign_operator.certificates import Certificates
from selfalign_operator.cli import options_of, parser
from selfalign_operator.health import Health, HealthServer
from testbed.certificates import Authority, Pair

Ask = Callable[[Authority, Pair | None], Awaitable[int]]


async def yes() -> bool:
    return True


def mount(folder: Path, authority: Authority, clients: Authority | None = None) -> None:
    """What a Secret's volume has: its files are other files, which are moved over the old."""
    pair = authority.server(["operator"], ["127.0.0.1"])
    for name, content in (("tls.crt", pair.certificate), ("tls.key", pair.key)):
        (folder / name).write_bytes(content)
    if clients is not None:
        (folder / "ca.crt").write_bytes(clients.certificate)


def trusting(folder: Path, authority: Authority, shown: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    if shown is not None:
        context.load_cert_chain(*shown.write(folder, "shown"))
    return context


def serve(folder: Path, play: Callable[[Ask], Awaitable[None]], clients: bool = False) -> None:
    """Plays against a server with these certificates; asked with whom one trusts, and what one shows."""

    async def run() -> None:
        health = Health(dict, lambda: 0.0, lambda: True, lambda: "yes", tuple, yes)
        server = HealthServer(health, CollectorRegistry())
        port = await server.start_secured("127.0.0.1", 0, Certificates(folder, clients).context)

        async def ask(trusted: Authority, shown: Pair | None) -> int:
            url, context = f"https://127.0.0.1:{port}/metrics", trusting(folder, trusted, shown)
            async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
                return answer.status

        try:
            await play(ask)
        finally:
            await server.close()

    asyncio.run(run())


def test_whoever_trusts_the_issuer_reads_metrics(tmp_path: Path) -> None:
    issuer = Authority()
    mount(tmp_path, issuer)

    async def play(ask: Ask) -> None:
        assert await ask(issuer, None) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(Authority(), None)

    serve(tmp_path, play)


def test_with_client_certificates_nobody_reads_without_one_of_that_issuer(tmp_path: Path) -> None:
    issuer, clients = Authority(), Authority()
    mount(tmp_path, issuer, clients)

    async def play(ask: Ask) -> None:
        assert await ask(issuer, clients.client("prometheus")) == 200
        for shown in (None, Authority().client("prometheus")):
            with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
                await ask(issuer, shown)

    serve(tmp_path, play, clients=True)


def test_renewed_certificates_serve_the_next_connection_and_half_written_ones_none(tmp_path: Path) -> None:
    """Of servers and of clients: who is no longer signed for is no longer let in."""
    old, new = (Authority(), Authority()), (Authority(), Authority())
    mount(tmp_path, *old)

    async def play(ask: Ask) -> None:
        assert await ask(old[0], old[1].client("prometheus")) == 200
        (tmp_path / "tls.crt").write_bytes(b"-----BEGIN CERT")
        assert await ask(old[0], old[1].client("prometheus")) == 200
        mount(tmp_path, *new)
        assert await ask(new[0], new[1].client("prometheus")) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await ask(old[0], new[1].client("prometheus"))
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            await ask(new[0], old[1].client("prometheus"))

    serve(tmp_path, play, clients=True)


def test_beside_health_there_are_no_metrics_then() -> None:
    async def run() -> tuple[int, int]:
        server = HealthServer(Health(dict, lambda: 0.0, lambda: True, lambda: "yes", tuple, yes), CollectorRegistry())
        port = await server.start("127.0.0.1", 0, metrics=False)
        try:
            async with aiohttp.ClientSession() as session:
                found = [await session.get(f"http://127.0.0.1:{port}/{path}") for path in ("healthz", "metrics")]
                return found[0].status, found[1].status
        finally:
            await server.close()

    assert asyncio.run(run()) == (200, 404)


@pytest.mark.parametrize(
    ("files", "clients"),
    [
        ({}, False),
        ({"tls.crt": b"x", "tls.key": b"x"}, False),
        ({"tls.crt": b"", "tls.key": b""}, False),
        ("served", True),
        ("another's key", False),
        ("served, and no authority", True),
    ],
)
def test_what_cannot_be_served_from_is_refused_in_words(tmp_path: Path, files: Any, clients: bool) -> None:
    if isinstance(files, str):
        mount(tmp_path, Authority())
        files = {
            "another's key": {"tls.key": Authority().client("x").key},
            "served, and no authority": {"ca.crt": b"x"},
        }.get(files, {})
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=r"--metrics-tls: .*mount a Secret with tls.crt, tls.key"):
        Certificates(tmp_path, clients)


def test_client_certificates_ask_for_tls() -> None:
    with pytest.raises(ConfigError, match="write --metrics-tls FOLDER too"):
        options_of(parser().parse_args(["--config=x", "--metrics-client-certificates"]))
