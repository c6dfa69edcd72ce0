"""A throw-away certificate authority by the openssl command.

Rule: one directory per authority; the keys are readable by everyone, since the servers read them under several uids
and nobody shall ever trust them.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from .service import HOST, run_tool

DAYS = 30  # how long a good certificate lasts from now


class Certificate(NamedTuple):
    """Two PEM files."""

    chain: Path
    key: Path


class Authority:
    """A CA (`ca`: its certificate) and the server certificates it signs, each made once."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self.ca, self._key = self.root / "ca.pem", self.root / "ca.key"
        if not self.ca.exists():
            run_tool("openssl", "req", "-x509", *_NEW_KEY, self._key, "-days", str(DAYS), "-subj", "/CN=mailbed CA",
                          "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", self.ca)  # fmt: skip

    def valid(self, name: str = "mx.bed.test") -> Certificate:
        """Good for `name`, localhost and 127.0.0.1."""
        return self._issue(name, f"DNS:{name},DNS:localhost,IP:{HOST}", DAYS)

    def expired(self) -> Certificate:
        """Good for localhost and 127.0.0.1 until 24 hours ago."""
        return self._issue("expired.bed.test", f"DNS:localhost,IP:{HOST}", -1)

    def wrong_name(self) -> Certificate:
        """In date, but of a server called elsewhere.test."""
        return self._issue("elsewhere.test", "DNS:elsewhere.test", DAYS)

    def client_context(self) -> ssl.SSLContext:
        """What a client needs that trusts this CA alone."""
        return ssl.create_default_context(cafile=str(self.ca))

    def _issue(self, name: str, alternative_names: str, days: int) -> Certificate:
        made = Certificate(self.root / f"{name}.pem", self.root / f"{name}.key")
        if made.chain.exists():
            return made
        request, extensions = self.root / f"{name}.csr", self.root / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName={alternative_names}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        run_tool("openssl", "req", *_NEW_KEY, made.key, "-subj", f"/CN={name}", "-out", request)
        run_tool("openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial",
                      "-days", str(days), "-extfile", extensions, "-out", made.chain)  # fmt: skip
        made.key.chmod(0o644)
        return made


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")
