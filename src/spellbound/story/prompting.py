"""Prompts to tokens: by the model's chat template, or without one by ours."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from spellbound.directives import StoryPrompt
from spellbound.errors import ModelError
from spellbound.story.completion import Message, Prompt
from spellbound.story.encoding import GrowingEncoder

Ids = NDArray[np.int32]


class PromptEncoder:
    """A model's tokenizer and template. For any number of threads.

    Without a template a chat is: the start token, if the tokenizer has one, each content, a line break.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        """Use the tokenizer of a model folder; the folder is named when its template fails."""
        self._folder, self._tokenizer = folder, tokenizer
        self._encoder = GrowingEncoder(tokenizer.backend_tokenizer)
        added = tokenizer.added_tokens_decoder.values()
        self._control = [token.content for token in added if token.special]

    def encode(self, prompt: Prompt | StoryPrompt, *, start: bool = True) -> tuple[Ids, list[int]]:
        """Return a prompt's tokens, and the places up to which the next turn's prompt is likely the same.

        Of a prompt that has grown, only what was added is encoded. `start`: a text gets the start token.
        """
        if isinstance(prompt, StoryPrompt):
            return self._chat((Message("user", prompt.render()),))
        if isinstance(prompt, str):
            begin = self._tokenizer.bos_token or "" if start else ""
            return self._text(prompt if prompt.startswith(begin) else f"{begin}{prompt}")
        if prompt and isinstance(prompt[0], Message):
            return self._chat(tuple(each for each in prompt if isinstance(each, Message)))
        try:
            return np.asarray(prompt, np.int32).reshape(-1), []
        except (OverflowError, ValueError, TypeError) as error:
            raise ModelError(f"the prompt's tokens cannot be used: {error}; give whole numbers") from error

    def decode(self, tokens: Sequence[int], size: int | None = None) -> str:
        """Return the text of tokens, control tokens by their names; ModelError for one that is none.

        `size`: tokens that the model has, where it has more than the tokenizer.
        """
        size = len(self._tokenizer) if size is None else size
        for place, token in enumerate(tokens):
            if not 0 <= token < size:
                raise ModelError(f"token {token} at place {place} is not in {size}; leave it out")
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def chat_text(self, messages: Sequence[Message]) -> str:
        """Put messages where the model expects them."""
        if self._tokenizer.chat_template is None:
            lines = "".join(f"{message.content}\n" for message in messages)
            return f"{self._tokenizer.bos_token or ''}{lines}"
        asked = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            one = [message.role for message in messages] == ["user"]
            what = "a single message of the user" if one else f"these {len(messages)} messages"
            remedy = "mend the template or remove it" if one else "send them in another order or as one"
            raise ModelError(
                f"{self._folder}: the chat template refuses {what}: {error}; {remedy}"
            ) from error
        return str(text)

    def _text(self, text: str) -> tuple[Ids, list[int]]:
        encoded = self._encoder.encode(text)
        return encoded.ids, [encoded.tokens_before(at) for at in _fixed_parts(text)]

    def _chat(self, messages: tuple[Message, ...]) -> tuple[Ids, list[int]]:
        if any(control in message.content for message in messages for control in self._control):
            return self._encode_apart(messages), []
        return self._text(self.chat_text(messages))

    def _encode_apart(self, messages: tuple[Message, ...]) -> Ids:
        """Encode messages that spell out control tokens, so that they are read as letters.

        Each content stands for itself while the template is applied: a mark that nobody can foresee.
        """
        marks = [f"x{secrets.token_hex(16)}x" for _ in messages]
        rest = self.chat_text([Message(each.role, mark) for each, mark in zip(messages, marks, strict=True)])
        parts: list[Ids] = []
        for message, mark in zip(messages, marks, strict=True):
            head, found, rest = rest.partition(mark)
            if not found:
                raise ModelError(
                    "the chat template changes a prompt that contains the model's control tokens; leave out"
                    f" what is spelled like one of {', '.join(self._control)[:200]}"
                )
            parts += [self._encoder.encode(head).ids, self._letters.encode(message.content).ids]
        return np.concatenate([*parts, self._encoder.encode(rest).ids])

    @cached_property
    def _letters(self) -> GrowingEncoder:
        """An encoder to which control tokens are letters; a copy, as the setting holds for all threads."""
        copy = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        copy.encode_special_tokens = True
        return GrowingEncoder(copy)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read the tokenizer files of a model folder, its chat template included."""
    if not folder.is_dir():
        raise ModelError(f"model folder {str(folder)!r} does not exist")
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(
            f"{folder}: tokenizer.json is missing; give a folder with config, tokenizer and safetensors"
        )
    try:
        # Asked first, because the tokenizers library raises a bare Exception for what it cannot read.
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "model" not in content:
            raise ValueError("tokenizer.json holds no tokenizer")
        return PreTrainedTokenizerFast.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {error}") from error


def _fixed_parts(text: str) -> list[int]:
    """Return the offsets where the cast ends and where the past story ends.

    The past story grows at its end, and its last word may be cut into other tokens once more follows: so the
    offset is before that word.
    """
    cast = max(text.find("<pastStory>"), 0)
    past = text.rfind("</pastStory>")
    last_word = max(text.rfind(" ", 0, past), cast) if past >= 0 else cast
    return [cast, last_word]
