"""From prompts, completions and documents to token ids: the very ids that the model meets when it writes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from spellbound.data.examples import Example
from spellbound.errors import ModelError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
)
_ANSWER = (
    "spellbound answers here"  # stands for an assistant's message when a template is asked what follows one
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one sample, of which the first `given` are context without loss."""

    ids: list[int]
    given: int


class Encoder:
    """A model folder's tokenizer and chat template.

    A chat template is used as a single message of the user. Without one the prompt is: the start token, if
    the tokenizer has one, the prompt text, a line break. Control tokens that a text spells out are read as
    letters.
    """

    def __init__(self, folder: Path) -> None:
        """Load the tokenizer; ModelError for one that cannot be used or has no end-of-text token."""
        self.folder = folder
        self.tokenizer = _load(folder)
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                f"{folder}: the tokenizer names no end-of-text token; set eos_token in its config"
            )
        special = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")

    @property
    def pad_id(self) -> int:
        """What fills a row; never read, so any token would do."""
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        return int(end if pad is None else pad)

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self.tokenizer)

    def fingerprint(self) -> str:
        """Hash of the files that decide about token ids."""
        digest = hashlib.sha256()
        for name in TOKENIZER_FILES:
            if (self.folder / name).is_file():
                digest.update(name.encode() + (self.folder / name).read_bytes())
        return digest.hexdigest()[:32]

    def examples(self, examples: Sequence[Example]) -> list[Encoded]:
        """Prompts as context, completions and their end as what is learnt."""
        prompts = self.prompts([example.prompt.render() for example in examples])
        completions = self.letters([example.completion for example in examples])
        return [
            Encoded([*prompt, *completion, self.end_id], len(prompt))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]

    def documents(self, texts: Sequence[str]) -> list[Encoded]:
        """Start token, if there is one, and whole texts with their end, all learnt."""
        start = [] if self.tokenizer.bos_token_id is None else [int(self.tokenizer.bos_token_id)]
        end = int(self.tokenizer.eos_token_id)
        return [Encoded([*start, *ids, end], 1) for ids in self.letters(texts)]

    def prompts(self, contents: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered prompts, up to where the model begins to write."""
        made = self._ids([self._in_template(content) for content in contents])
        for place, content in enumerate(contents):
            if self._special.search(content):
                made[place] = self._encode_apart(content)
        return made

    def letters(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts in which no control token is heeded."""
        made = self._ids(texts)
        for place, text in enumerate(texts):
            if self._special.search(text):
                made[place] = self._ids([text], split_special_tokens=True)[0]
        return made

    @cached_property
    def end_id(self) -> int:
        """The token after a completion: what the template puts after an answer, else the end of text."""
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
        if self.tokenizer.chat_template is not None:
            try:
                text = str(self.tokenizer.apply_chat_template(messages, tokenize=False))
            except TemplateError:  # one that knows no assistant
                text = ""
            match = self._special.match(text.rpartition(_ANSWER)[2].lstrip())
            if _ANSWER in text and match:
                return int(self.tokenizer.convert_tokens_to_ids(match[0]))
        return int(self.tokenizer.eos_token_id)

    def _ids(self, texts: Sequence[str], **options: Any) -> list[list[int]]:
        encoded: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False, **options
        )["input_ids"]
        return encoded

    def _in_template(self, content: str) -> str:
        if self.tokenizer.chat_template is None:
            return f"{self.tokenizer.bos_token or ''}{content}\n"
        message = [{"role": "user", "content": content}]
        try:
            text = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ModelError(
                f"{self.folder}: the chat template refuses a single message of the user: {error};"
                " mend the template or remove it"
            ) from error
        return str(text)

    def _encode_apart(self, content: str) -> list[int]:
        """Encode a prompt that spells out control tokens, so that they are read as letters."""
        head, found, tail = self._in_template(content).partition(content)
        if not found:
            raise ModelError("the chat template changes a prompt that contains the model's control tokens")
        plain = self._ids([content], split_special_tokens=True)[0]
        first, last = self._ids([head])[0], self._ids([tail])[0]
        return [*first, *plain, *last]


def _load(folder: Path) -> PreTrainedTokenizerFast:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(f"{folder}: tokenizer.json is missing; give model.tokenizer a folder that has one")
    try:
        # Asked first, because the tokenizers library raises a bare Exception for what it cannot read.
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "model" not in content:
            raise ValueError("tokenizer.json holds no tokenizer")
        return PreTrainedTokenizerFast.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {error}") from error
