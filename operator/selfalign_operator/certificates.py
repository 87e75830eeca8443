"""Certificates of a mounted Secret, which whoever issues them renews in place: a process that began with one ends with another."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from selfalign_api.errors import ConfigError

__all__ = ["Certificates"]

# As Secrets of type kubernetes.io/tls, and cert-manager, name them.
CERTIFICATE, KEY, CLIENT_CA = "tls.crt", "tls.key", "ca.crt"
log = logging.getLogger(__name__)


@dataclass
class Certificates:
    """A folder with tls.crt and tls.key; with `of_clients` also ca.crt, one of whose certificates a client must show.

    Raises ConfigError where a context cannot be made of them.
    """

    folder: Path
    of_clients: bool = False
    context: ssl.SSLContext = field(init=False)  # for who listens
    _seen: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        try:
            self._seen = self._read()
            self.context = self._made()
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(self._names())
            said = f"cannot be served from: {error}; mount a Secret with {names} there (docs/metrics.md)"
            raise ConfigError.one("--metrics-tls", said, str(self.folder)) from None
        self.context.sni_callback = self._renew

    def _names(self) -> tuple[str, ...]:
        return (CERTIFICATE, KEY, CLIENT_CA) if self.of_clients else (CERTIFICATE, KEY)

    def _read(self) -> tuple[bytes, ...]:
        return tuple((self.folder / name).read_bytes() for name in self._names())

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.folder / CERTIFICATE, self.folder / KEY)
        if self.of_clients:
            context.load_verify_locations(self.folder / CLIENT_CA)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _renew(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """OpenSSL calls this at the beginning of each connection, which goes on with the context that it is given here."""
        try:
            found = self._read()
            if found != self._seen:
                fresh = self._made()
                fresh.sni_callback = self._renew
                self.context, self._seen = fresh, found
                log.info("certificates of %s were renewed", self.folder)
        except (OSError, ssl.SSLError) as error:  # in the middle of being written: the next connection reads again
            log.warning("new certificates of %s cannot be used yet: %s", self.folder, error)
        connection.context = self.context
