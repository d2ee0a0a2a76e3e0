"""What a server lets in, and how much of it."""

import ipaddress
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

from spellbound.directives import quotation_marks
from spellbound.errors import InputError

PlainForm = Literal["prose", "script"]
PLAIN_FORMS: tuple[PlainForm, ...] = get_args(PlainForm)
_LEAST_KEY = 16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Where a server listens, who may ask, and how much."""

    host: str = "127.0.0.1"
    """Interface; another one than loopback needs a key."""
    port: int = 8000
    """0: any free one."""
    key: str = field(default="", repr=False)
    """What clients send as a bearer token; empty: none is asked for."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which the server may be called, besides those of loopback and `host`."""
    cors_origins: tuple[str, ...] = ()
    """Pages (scheme://host:port) whose scripts may ask."""
    max_body_bytes: int = 8 * 2**20
    max_per_client: int = 64
    """Requests of one address at a time, each text of one counted."""
    grace_s: float = 20.0
    """How long requests may go on after a signal to end."""
    plain_form: PlainForm = "prose"
    """What the plain models write: prose with quotation marks, or `Name: “…”` before each speech."""
    language: str = "en"
    """Of the quotation marks of the plain models."""

    def __post_init__(self) -> None:
        """Refuse what would let strangers in, or nobody."""
        quotation_marks(self.language)
        if self.plain_form not in PLAIN_FORMS:
            raise InputError(
                f"plain form {self.plain_form!r:.40} is unknown; give {' or '.join(PLAIN_FORMS)}"
            )
        if not 0 <= self.port < 65536:
            raise InputError(f"port is {self.port}; give a number from 0 to 65535")
        for name in ("max_body_bytes", "max_per_client"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        if not 0 <= self.grace_s <= 3600:
            raise InputError(f"grace is {self.grace_s} seconds; give 0 to 3600")
        self._check_key()
        for origin in self.cors_origins:
            _check_origin(origin)

    def _check_key(self) -> None:
        if self.key and not (self.key.isascii() and self.key.isprintable() and len(self.key) >= _LEAST_KEY):
            raise InputError(
                f"the API key has fewer than {_LEAST_KEY} characters, or others than printable ASCII; make"
                " one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        if not self.key and not is_loopback(self.host):
            raise InputError(
                f"host {self.host!r} can be reached from other machines; put an API key into the environment,"
                " or listen on 127.0.0.1"
            )

    def lets_in(self, host: str) -> bool:
        """Whether a Host header names this server: a page elsewhere that had its name rebound does not."""
        name = host_name(host)
        ours = (*_LOOPBACK, self.host, *self.allowed_hosts)
        if name in (each.lower() for each in ours):
            return True
        # Bound to every interface, any address may be ours; an address cannot be rebound as a name can.
        return _is_wildcard(self.host) and _address(name) is not None


def plain_form_named(name: str) -> PlainForm:
    """Return the form of this name; InputError if there is none."""
    for each in PLAIN_FORMS:
        if each == name:
            return each
    raise InputError(f"plain form {name!r:.40} is unknown; give {' or '.join(PLAIN_FORMS)}")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the interface."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port and brackets; nothing if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    whole = parts.netloc == host and parts.username is None and not parts.path
    return (parts.hostname or "") if whole else ""


def _check_origin(origin: str) -> None:
    try:
        parts = urlsplit(origin)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or origin != f"{parts.scheme}://{parts.netloc}" or "*" in origin or "@" in origin:
        raise InputError(
            f"CORS origin {origin!r:.80} is no address of a page; give each one as http://localhost:3000"
        )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_wildcard(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_unspecified
