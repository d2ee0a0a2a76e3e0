"""A server that writes: where it is, what it understands, and how long it may be silent."""

import math
import os
from dataclasses import dataclass
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from spellbound.errors import EnvironmentFault, InputError

Dialect = Literal["vllm", "vllm-xgrammar", "llama.cpp", "openai"]
"""What a server takes beside OpenAI's own fields.

vllm: the grammar, for its backend `guidance` · vllm-xgrammar: the structural tag, for that backend of it ·
llama.cpp: the grammar in its own notation · openai: no constraint, and no fields that others have added.
"""
DIALECTS: tuple[Dialect, ...] = ("vllm", "vllm-xgrammar", "llama.cpp", "openai")
Api = Literal["chat", "completions"]
APIS: tuple[Api, ...] = ("chat", "completions")
_Name = TypeVar("_Name", bound=str)
KEY_VARIABLE = "SPELLBOUND_API_KEY"
"""Not OPENAI_API_KEY: a key for one server must not go to another that was merely named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """An OpenAI-compatible server. Its key is no setting: it is read from the environment."""

    url: str
    """Up to its version, as http://127.0.0.1:8000/v1."""
    model: str = ""
    """A model or adapter as the server calls it; empty: the only one it has."""
    api: Api = "chat"
    """chat: the prompt as one message of the user · completions: the prompt as it is, and a line break."""
    dialect: Dialect = "vllm"
    key_variable: str = KEY_VARIABLE
    """Environment variable with the key; where it is not set, none is sent."""
    retries: int = 4
    """Further tries while nothing has been written."""
    backoff_s: float = 1.0
    """Pause before the first of them, in seconds; each further one is twice as long."""
    longest_wait_s: float = 60.0
    """Longest pause; a server that asks for more is given up."""
    connect_s: float = 10.0
    first_token_s: float = 600.0
    """From the request to the first text: the server may have a queue, and the story may be long."""
    between_tokens_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, with the remedy."""
        self._check_url()
        api_named(self.api)
        dialect_named(self.dialect)
        for name in ("connect_s", "first_token_s", "between_tokens_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"server {name} is {getattr(self, name)}; give seconds above 0")
        for name in ("retries", "backoff_s", "longest_wait_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"server {name} is {getattr(self, name)}; give 0 or more")

    def _check_url(self) -> None:
        try:
            url = urlsplit(self.url)
            whole = url.scheme in ("http", "https") and url.hostname and url.port != 0
            if not all("!" <= letter <= "~" for letter in self.url):
                raise ValueError("a host of other letters has a name in these, too")
        except ValueError:
            raise InputError(
                "the server's address cannot be read; give one as http://127.0.0.1:8000/v1"
            ) from None
        # First, so that no message shows the password.
        if url.username or url.password or url.query or url.fragment:
            raise InputError(
                f"the address of server {url.hostname} holds a name, a password, a query or a fragment; leave"
                f" them out and put a key into {self.key_variable}"
            )
        if not whole:
            raise InputError(
                f"{self.url!r:.100} is no address of a server; give one as http://127.0.0.1:8000/v1"
            )

    def key(self) -> str:
        """Return the key from the environment, or nothing; EnvironmentFault if it cannot be one."""
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and (key.isprintable() or not key)):
            raise EnvironmentFault(
                f"{self.key_variable} holds characters that no key has; run: export {self.key_variable}=..."
            )
        return key


def api_named(name: str) -> Api:
    """Return the API of this name; InputError if there is none."""
    return _one_of("api", name, APIS)


def dialect_named(name: str) -> Dialect:
    """Return the dialect of this name; InputError if there is none."""
    return _one_of("dialect", name, DIALECTS)


def _one_of(what: str, name: str, known: tuple[_Name, ...]) -> _Name:
    for each in known:
        if each == name:
            return each
    raise InputError(f"server {what} {name!r:.40} is unknown; give one of {', '.join(known)}")
