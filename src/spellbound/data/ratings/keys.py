"""Pseudonymous keys of readers: a keyed hash of the account, with a secret that stays with the service.

The same account has the same key for as long as the secret is the same, so that a withdrawal finds every
rating. Without the secret nobody can try accounts until one fits. BLAKE2b: RFC 7693.
"""

import hashlib
import os
import re
import unicodedata

from spellbound.errors import EnvironmentFault, InputError

SECRET = "SPELLBOUND_USER_SECRET"  # noqa: S105 - the name of a variable, no secret
_LEAST_SECRET = 32
_KEY = re.compile(r"u1-[0-9a-f]{32}")


def user_key(account: str, secret: str) -> str:
    """Return the key of an account: its id, name or address, in any Unicode form.

    Raises InputError for a blank account, one that is no text, or a short secret.
    """
    name = unicodedata.normalize("NFC", account).strip()
    if not name:
        raise InputError("the account is blank; give what your service tells readers apart by")
    if len(secret) < _LEAST_SECRET:
        raise InputError(f"the secret has {len(secret)} characters; give at least {_LEAST_SECRET}")
    key = hashlib.blake2b(secret.encode(errors="surrogateescape")).digest()
    try:
        content = name.encode()
    except UnicodeEncodeError:
        raise InputError("the account holds half a character; give it as UTF-8") from None
    digest = hashlib.blake2b(content, key=key, digest_size=16, person=b"spellbound user")
    return f"u1-{digest.hexdigest()}"


def is_user_key(text: str) -> bool:
    """Whether a text has the form of a key; a name or an address has not."""
    return _KEY.fullmatch(text) is not None


def require_user_key(text: str) -> str:
    """Return a key; InputError for anything else, without repeating what may be somebody's name."""
    if not is_user_key(text):
        raise InputError(
            f"the user key ({len(text)} characters) is not u1- and 32 hexadecimal digits;"
            " make it with: spellbound data ratings key"
        )
    return text


def secret_from_environment() -> str:
    """Return the secret of the service; EnvironmentFault if the variable is not set."""
    secret = os.environ.get(SECRET, "")
    if len(secret) < _LEAST_SECRET:
        raise EnvironmentFault(
            f"the variable {SECRET} holds {len(secret)} of {_LEAST_SECRET} characters or more; make one, keep"
            f' it safe, and set it: export {SECRET}="$(openssl rand -hex 32)"'
        )
    return secret
