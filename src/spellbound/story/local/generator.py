"""A generator in this process: prompt text to tokens, the engine, tokens back to text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from spellbound.directives import StoryPrompt, grammar
from spellbound.engine import (
    Disk,
    Engine,
    Request,
    SamplingParams,
    Scores,
    StoryCache,
    Vocabulary,
    Writer,
    load_model,
)
from spellbound.errors import ModelError
from spellbound.story.completion import (
    CompletionOptions,
    EngineSettings,
    Failed,
    Likely,
    Load,
    Message,
    Piece,
    Prompt,
    PromptTooLong,
    Scored,
    StoryTold,
    Told,
)
from spellbound.story.generator import Ending, WriteOptions
from spellbound.story.local.writers import Completion, Passage, Telling, ToldTicket
from spellbound.story.pacing import Pen
from spellbound.story.prompting import PromptEncoder, load_tokenizer

_TOKENS_A_WORD = 8
_LEAST_BUDGET = 1024
# A repetition penalty is for words. Punctuation, markup and the capitals of speaker IDs recur by nature.
_WORD = re.compile(r"[^\W\dA-Z_]")
_MARKUP = re.compile(r'[<>="/]')


class LocalGenerator:
    """A model folder, loaded once; states of earlier prompts stay in memory and are used again.

    A `Generator`, and a `Completer`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        adapter: Path | None = None,
        adapters: Mapping[str, Path] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        settings: EngineSettings | None = None,
    ) -> None:
        """Load config, tokenizer, weights and adapter; raises ModelError for whatever cannot be used.

        `adapter` is merged into the weights; `adapters`, by name, lie beside them for who asks for one.
        """
        self._tokenizer = load_tokenizer(folder)
        model = load_model(folder, device=device, dtype=dtype, adapter=adapter)
        if len(self._tokenizer) > model.config.vocab_size:
            raise ModelError(
                f"{folder}: the tokenizer has {len(self._tokenizer)} tokens and the model"
                f" {model.config.vocab_size}; they do not belong together"
            )
        settings = EngineSettings() if settings is None else settings
        self._encoder = PromptEncoder(folder, self._tokenizer)
        self._stop_ids = _stop_ids(folder, self._tokenizer)
        if not self._stop_ids:
            raise ModelError(f"{folder}: neither tokenizer nor config names an end-of-text token")
        self._prompt_limit = settings.max_prompt_tokens
        place = settings.cache_folder
        disk = None if place is None else Disk(place, model, max_bytes=settings.disk_bytes)
        self.engine = Engine(
            model,
            cache=StoryCache(max_bytes=settings.cache_bytes, disk=disk),
            max_streams=settings.max_streams,
            max_waiting=settings.max_waiting,
        )
        for name, place in (adapters or {}).items():
            self.engine.add_adapter(name, place)
        self._vocabulary = Vocabulary(
            self._tokenizer.backend_tokenizer.to_str(),
            size=model.config.vocab_size,
            stop_ids=sorted(self._stop_ids),
        )

    # ---- what it is and does

    @property
    def context(self) -> int:
        """Tokens that prompt and text may have together."""
        return int(self.engine.model.config.max_position_embeddings)

    @property
    def fault(self) -> str:
        """What keeps the engine from writing at all; what keeps it from one text is told to that request."""
        return "the engine is closed" if self.engine.closed else ""

    @property
    def adapters(self) -> list[str]:
        """Names of adapters that may be asked for."""
        return self.engine.adapters

    @property
    def load(self) -> Load:
        """What it is doing now."""
        running, waiting = self.engine.load
        cache, disk = self.engine.cache, self.engine.cache.disk
        failures = {"unkept": self.engine.unkept, **(disk.failures if disk else {})}
        disk_bytes = disk.nbytes if disk else 0
        return Load(running, waiting, cache.nbytes, disk_bytes, cache.evicted, failures)

    def close(self) -> None:
        """End what is being written, and wait until the story cache is on disk."""
        self.engine.close()

    # ---- passages

    def write(
        self, prompt: StoryPrompt, options: WriteOptions, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str | Ending]:
        """Yield the passage piece by piece, then its Ending."""
        passage = Passage(self._vocabulary, Pen(options.words, options.stop))
        generation = self.engine.generate(self._passage_request(prompt, options, passage), cancelled)
        try:
            for _ in generation:
                if text := passage.pieces.popleft():
                    yield text
        finally:
            generation.close()
        text, ending = passage.ending(generation)
        if text:
            yield text
        yield ending

    def start_passage(
        self, prompt: StoryPrompt, options: WriteOptions, put: Callable[[StoryTold], None]
    ) -> ToldTicket:
        """Begin a passage; `put` is told what `write` yields, or Failed, on the engine's thread."""
        passage = Passage(self._vocabulary, Pen(options.words, options.stop))

        def tell(token: int, text: str) -> None:
            if text:
                put(text)

        def ended(told: ToldTicket) -> None:
            text, ending = passage.ending(told)
            if text:
                put(text)
            put(ending if told.error is None else Failed(told.error))

        request = self._passage_request(prompt, options, Telling(passage, tell))
        return self._enter(ToldTicket(request, ended))

    def prompt_tokens(self, prompt: StoryPrompt) -> tuple[list[int], list[int]]:
        """Return a prompt's tokens, and the places up to which the next turn's prompt is likely the same.

        A chat template is used as a single message of the user. Without one the prompt is: the start token,
        if the tokenizer has one, the prompt text, a line break.
        """
        ids, places = self._encoder.encode(prompt)
        return ids.tolist(), places

    # ---- completions

    def start(self, prompt: Prompt, options: CompletionOptions, put: Callable[[Told], None]) -> ToldTicket:
        """Begin to complete; `put` is told pieces, then Completed or Failed, on the engine's thread."""
        completion = Completion(self._vocabulary, options)

        def tell(token: int, text: str) -> None:
            scored = self._scored(token, told.scores[-1]) if told.scores else None
            if text or scored:
                put(Piece(text, scored))

        def ended(told: ToldTicket) -> None:
            text, completed = completion.ending(told)
            if text:
                put(Piece(text))
            put(completed if told.error is None else Failed(told.error))

        told = ToldTicket(self._completion_request(prompt, options, Telling(completion, tell)), ended)
        return self._enter(told)

    def tokenize(self, prompt: str | tuple[Message, ...], *, start: bool = True) -> list[int]:
        """Return the tokens of a prompt; `start`: of a text, with the start token."""
        return [int(token) for token in self._encoder.encode(prompt, start=start)[0]]

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, control tokens by their names; ModelError for one that is none."""
        return self._encoder.decode(tokens, self._vocabulary.size)

    def chat_text(self, messages: tuple[Message, ...]) -> str:
        """Return what the model reads of a chat."""
        return self._encoder.chat_text(messages)

    # ---- requests

    def _passage_request(self, prompt: StoryPrompt, options: WriteOptions, writer: Writer) -> Request:
        """Say in tokens what is to be written."""
        cast = options.speakers(prompt)
        rules = grammar(cast, tags=prompt.tags) if options.constrain else None
        budget = max(_LEAST_BUDGET, _TOKENS_A_WORD * (options.words or 0))
        return self._request(prompt, options, writer, rules, options.max_tokens or budget)

    def _completion_request(self, prompt: Prompt, options: CompletionOptions, writer: Writer) -> Request:
        rules = options.grammar
        if options.json_schema is not None:
            rules = json.dumps({"grammars": [{"json_schema": json.loads(options.json_schema)}]})
        request = self._request(prompt, options, writer, rules, options.max_tokens or self.context)
        params = replace(request.params, logit_bias=options.logit_bias)
        return replace(request, params=params, logprobs=options.logprobs)

    def _request(
        self,
        prompt: Prompt | StoryPrompt,
        options: WriteOptions | CompletionOptions,
        writer: Writer,
        rules: str | None,
        max_tokens: int,
    ) -> Request:
        prompt_ids, boundaries = self._encoder.encode(prompt)
        self._require_room(prompt_ids)
        return Request(
            prompt_ids=prompt_ids,
            params=SamplingParams(
                temperature=options.temperature,
                top_p=options.top_p,
                min_p=options.min_p,
                repetition_penalty=options.repetition_penalty,
                seed=options.seed,
                max_tokens=max_tokens,
            ),
            stop_ids=self._stop_ids,
            constraint=None if rules is None else self._vocabulary.constraint(rules),
            writer=writer,
            boundaries=boundaries,
            never_penalised=self._never_penalised if options.repetition_penalty != 1.0 else frozenset(),
            adapter=options.adapter,
            space=options.space,
            seconds=options.seconds,
        )

    def _enter(self, told: ToldTicket) -> ToldTicket:
        """Have a request worked on."""
        self.engine.check(told)
        self.engine.enter(told)
        return told

    def _require_room(self, prompt_ids: NDArray[np.int32]) -> None:
        most = min(self.context - 1, self._prompt_limit or self.context)
        if len(prompt_ids) > most:
            raise PromptTooLong(
                f"the prompt has {len(prompt_ids)} tokens and at most {most} are read; shorten the past story"
            )

    def _scored(self, token: int, scores: Scores) -> Scored:
        """Say in text what was scored."""
        likeliest = tuple(self._likely(each, logprob) for each, logprob in scores.likeliest)
        return Scored(self._likely(token, scores.chosen), likeliest)

    def _likely(self, token: int, logprob: float) -> Likely:
        data = self._vocabulary.token_bytes(token)
        name = data.decode("utf-8", "replace") or str(self._tokenizer.convert_ids_to_tokens(token) or "")
        return Likely(token, name, data, logprob)

    @cached_property
    def _never_penalised(self) -> frozenset[int]:
        """Tokens that are no words, or part of a tag."""
        texts = ((token, self._vocabulary.token_bytes(token)) for token in range(self._vocabulary.size))
        decoded = ((token, content.decode("utf-8", "ignore")) for token, content in texts)
        return frozenset(token for token, text in decoded if not _WORD.search(text) or _MARKUP.search(text))


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
