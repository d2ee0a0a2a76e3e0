"""A generator in this process: prompt text to tokens, the engine, tokens back to text."""

from __future__ import annotations

import codecs
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from spellbound.directives import StoryPrompt, grammar
from spellbound.engine import Engine, Request, SamplingParams, Stats, Vocabulary, load_model
from spellbound.errors import ModelError
from spellbound.story.encoding import GrowingEncoder
from spellbound.story.generator import Ending, FinishReason, Usage, WriteOptions
from spellbound.story.pacing import Pen

_TOKENS_A_WORD = 8
_LEAST_BUDGET = 1024
# A repetition penalty is for words. Punctuation, markup and the capitals of speaker IDs recur by nature.
_WORD = re.compile(r"[^\W\dA-Z_]")
_MARKUP = re.compile(r'[<>="/]')
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "writer": "words",
    "length": "length",
    "deadline": "cancelled",
    "cancelled": "cancelled",
}
"""Why a passage ended, by why its tokens did."""


class _Passage:
    """The pen as the engine's writer: tokens in, on the engine's thread; for each a piece of text out."""

    def __init__(self, vocabulary: Vocabulary, pen: Pen) -> None:
        self._vocabulary, self._pen = vocabulary, pen
        # A character may be spread over several tokens; its bytes wait here until it is whole.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.pieces: deque[str] = deque()

    def write(self, token: int) -> None:
        """Put down what the token says, as far as it is certain."""
        self.pieces.append(self._pen.write(self._decoder.decode(self._vocabulary.token_bytes(token))))

    @property
    def done(self) -> bool:
        """Whether there are words enough and a good place to stop, or a stop string."""
        return self._pen.done

    @property
    def wants_more(self) -> bool:
        """Whether there are fewer words than were asked for."""
        return self._pen.wants_more


class LocalGenerator:
    """A model folder, loaded once; states of earlier prompts stay in memory and are used again."""

    def __init__(
        self, folder: Path, *, adapter: Path | None = None, device: str = "auto", dtype: str = "auto"
    ) -> None:
        """Load config, tokenizer, weights and adapter; raises ModelError for whatever cannot be used."""
        self._folder = folder
        self._tokenizer = load_tokenizer(folder)
        model = load_model(folder, device=device, dtype=dtype, adapter=adapter)
        if len(self._tokenizer) > model.config.vocab_size:
            raise ModelError(
                f"{folder}: the tokenizer has {len(self._tokenizer)} tokens and the model"
                f" {model.config.vocab_size}; they do not belong together"
            )
        self._encoder = GrowingEncoder(self._tokenizer)
        self._stop_ids = _stop_ids(folder, self._tokenizer)
        if not self._stop_ids:
            raise ModelError(f"{folder}: neither tokenizer nor config names an end-of-text token")
        self.engine = Engine(model)
        self._vocabulary = Vocabulary(
            self._tokenizer.backend_tokenizer.to_str(),
            size=model.config.vocab_size,
            stop_ids=sorted(self._stop_ids),
        )

    def write(
        self, prompt: StoryPrompt, options: WriteOptions, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str | Ending]:
        """Yield the passage piece by piece, then its Ending."""
        pen = Pen(options.words, options.stop)
        passage = _Passage(self._vocabulary, pen)
        generation = self.engine.generate(self._request(prompt, options, passage), cancelled)
        try:
            for _ in generation:
                if text := passage.pieces.popleft():
                    yield text
        finally:
            generation.close()
        reason = "stop" if pen.stopped else _REASONS[generation.finish_reason]
        if text := pen.finish(cut=reason != "stop"):
            yield text
        yield Ending(
            reason=reason,
            words=pen.words,
            usage=_usage(generation.stats),
            closed=pen.closed,
            repairs=tuple(pen.repairs),
        )

    def prompt_tokens(self, prompt: StoryPrompt) -> tuple[list[int], list[int]]:
        """Return a prompt's tokens, and the places up to which the next turn's prompt is likely the same.

        A chat template is used as a single message of the user. Without one the prompt is: the start token,
        if the tokenizer has one, the prompt text, a line break.
        """
        ids, places = self._encoded(prompt)
        return ids.tolist(), places

    def _encoded(self, prompt: StoryPrompt) -> tuple[NDArray[np.int32], list[int]]:
        """Do what `prompt_tokens` does; of a prompt that has grown, only what was added is encoded."""
        content = prompt.render()
        text = self._in_template(content)
        added = self._tokenizer.added_tokens_decoder.values()
        if any(token.special and token.content in content for token in added):
            return self._encode_apart(text, content), []
        encoded = self._encoder.encode(text)
        return encoded.ids, [encoded.tokens_before(at) for at in _fixed_parts(text)]

    def _request(self, prompt: StoryPrompt, options: WriteOptions, passage: _Passage) -> Request:
        """Say in tokens what is to be written."""
        prompt_ids, boundaries = self._encoded(prompt)
        budget = max(_LEAST_BUDGET, _TOKENS_A_WORD * (options.words or 0))
        params = SamplingParams(
            temperature=options.temperature,
            top_p=options.top_p,
            min_p=options.min_p,
            repetition_penalty=options.repetition_penalty,
            seed=options.seed,
            max_tokens=options.max_tokens or budget,
        )
        rules = grammar(prompt.characters, tags=prompt.tags) if options.constrain else None
        return Request(
            prompt_ids=prompt_ids,
            params=params,
            stop_ids=self._stop_ids,
            constraint=None if rules is None else self._vocabulary.constraint(rules),
            writer=passage,
            boundaries=boundaries,
            never_penalised=self._never_penalised,
        )

    def _in_template(self, content: str) -> str:
        """Put the prompt text where the model expects it."""
        if self._tokenizer.chat_template is None:
            return f"{self._tokenizer.bos_token or ''}{content}\n"
        message = [{"role": "user", "content": content}]
        try:
            text = self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ModelError(
                f"{self._folder}: the chat template refuses a single message of the user: {error};"
                " mend the template or remove it"
            ) from error
        return str(text)

    def _encode_apart(self, text: str, content: str) -> NDArray[np.int32]:
        """Encode a prompt that spells out control tokens, so that they are read as letters."""
        head, found, tail = text.partition(content)
        if not found:
            raise ModelError("the chat template changes a prompt that contains the model's control tokens")
        plain = self._tokenizer(content, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        ends = [self._tokenizer(part, add_special_tokens=False)["input_ids"] for part in (head, tail)]
        return np.array([*ends[0], *plain, *ends[1]], np.int32)

    @cached_property
    def _never_penalised(self) -> frozenset[int]:
        """Tokens that are no words, or part of a tag."""
        texts = ((token, self._vocabulary.token_bytes(token)) for token in range(self._vocabulary.size))
        decoded = ((token, content.decode("utf-8", "ignore")) for token, content in texts)
        return frozenset(token for token, text in decoded if not _WORD.search(text) or _MARKUP.search(text))


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


def _stop_ids(folder: Path, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Return every token that ends a text, wherever the checkpoint says so."""
    files = [folder / name for name in ("config.json", "generation_config.json")]
    named = [tokenizer.eos_token_id, *(_end_of_text(file) for file in files if file.is_file())]
    flat = [token for entry in named for token in (entry if isinstance(entry, list) else [entry])]
    return frozenset(token for token in flat if token is not None)


def _end_of_text(file: Path) -> int | list[int] | None:
    """Return what a settings file names as the end of a text."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it holds no settings")
        named = settings.get("eos_token_id")
        if any(type(token) is not int for token in (named if isinstance(named, list) else [named or 0])):
            raise ValueError(f"eos_token_id is {named!r:.40}, not a number or a list of numbers")
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}; bring back the file of the checkpoint") from error
    return named


def _fixed_parts(text: str) -> list[int]:
    """Return the offsets where the cast ends and where the past story ends.

    The past story grows at its end, and its last word may be cut into other tokens once more follows: so the
    offset is before that word.
    """
    cast = max(text.find("<pastStory>"), 0)
    past = text.rfind("</pastStory>")
    last_word = max(text.rfind(" ", 0, past), cast) if past >= 0 else cast
    return [cast, last_word]


def _usage(stats: Stats) -> Usage:
    """Say what it cost in the words of this room."""
    return Usage(
        prompt_tokens=stats.prompt_tokens,
        reused_tokens=stats.reused_tokens,
        written_tokens=stats.written_tokens,
        prefill_seconds=stats.prefill_seconds,
        tokens_per_second=stats.tokens_per_second,
    )
