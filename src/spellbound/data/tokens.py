"""How many tokens a text has, by a model folder's tokenizer. No torch is needed for that."""

import json
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from spellbound.errors import InputError
from spellbound.files import words_of


def token_counter(folder: Path) -> Callable[[str], int]:
    """Return what counts a text's tokens, special ones left out; InputError if there is no tokenizer."""
    file = folder / "tokenizer.json"
    try:
        text = file.read_text(encoding="utf-8")
        json.loads(text)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {words_of(error)}; name a model folder") from error
    except ValueError as error:
        raise InputError(f"{file}: is not JSON ({error}); name another model folder") from error
    tokenizer = Tokenizer.from_str(text)

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count
