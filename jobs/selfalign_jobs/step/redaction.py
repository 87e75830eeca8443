"""Secrets of the environment, taken out of text: by the names of variables, and by values that look like a key."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

SECRET_NAMES = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE|CONNECTION_STRING|KEY$"
    r"|(^|_)(PASS|PWD|SAS|DSN|AUTH|KEYS?)(_|$)",
    re.IGNORECASE,
)
PLAIN_NAMES = re.compile(r"(OLD)?PWD|HOSTNAME|PATH|\w*_(PATH|FILE|DIR)")
KEY_LIKE = re.compile(
    r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[\w+=~-]{20,}"
)  # mixed letters and digits, no path and no address
MIN_CHARACTERS = 6  # a shorter one is no secret, and would blot out words
MIN_LINE = 8  # of a secret of several lines: each is taken out alone


class Redaction:
    """Takes the secrets of an environment out of lines of text."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        found: dict[bytes, bytes] = {}
        for name, value in environment.items():
            for secret in _secrets(name, value):
                for form in _forms(secret):
                    found.setdefault(form, f"[{name}]".encode())
        self.longest = max(map(len, found), default=0)
        self._names = found
        by_length = sorted(found, key=len, reverse=True)  # one may be the beginning of another
        self._pattern = re.compile(b"|".join(map(re.escape, by_length))) if found else None

    def of(self, text: bytes) -> bytes:
        """The text with the name of its variable in the place of each secret."""
        return text if self._pattern is None else self._pattern.sub(lambda found: self._names[found[0]], text)


def _secrets(name: str, value: str) -> list[str]:
    """What of a variable's value must not be shown."""
    if "://" in value:  # a proxy, a database: what stands before the @
        try:
            return [password for password in (urlsplit(value).password,) if password]
        except ValueError:
            return [value]
    if PLAIN_NAMES.fullmatch(name) or not (SECRET_NAMES.search(name) or KEY_LIKE.fullmatch(value)):
        return []
    lines = [line.strip() for line in value.splitlines()]
    return [value] if len(lines) < 2 else [value, *(line for line in lines if len(line) >= MIN_LINE)]


def _forms(secret: str) -> list[bytes]:
    """A secret as programs write it: itself, as JSON, in a URL, in base64 (a header of HTTP)."""
    if len(secret) < MIN_CHARACTERS:
        return []
    raw = secret.encode("utf-8", "surrogateescape")
    texts = {json.dumps(secret)[1:-1].encode(), quote(raw, safe="").encode(), quote(raw).encode()}
    return list(dict.fromkeys((raw, *sorted(texts), base64.b64encode(raw).rstrip(b"="))))
