"""A tokenizer in the terms of llama.cpp: tokens, their kinds, merges or scores, and how text is cut first."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spellbound.errors import ModelError

# gguf.TokenType
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")
# llama.cpp knows ways to cut text by name alone; these expressions are what the names stand for.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_OTHERS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CUTS = {_WORDS + r"\p{N}{1,3}" + _OTHERS: "llama-bpe", _WORDS + r"\p{N}" + _OTHERS: "qwen2"}
_NEAREST_CUT = "qwen2"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer. ``exact``: llama.cpp cuts text as the tokenizer itself does."""

    model: str
    cut: str
    exact: bool
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    scores: tuple[float, ...]
    merges: tuple[str, ...]
    ids: dict[str, int]
    adds_start: bool
    prefix_space: bool
    template: str | None

    @classmethod
    def of(cls, folder: Path) -> Vocabulary | None:
        """Read a model folder's tokenizer; None if there is none.

        Raises:
            ModelError: a tokenizer that is neither byte-level BPE nor BPE with byte tokens.
        """
        file = folder / "tokenizer.json"
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return _vocabulary(content, folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"{file}: cannot be read: {error}; take the tokenizer again") from error

    def write(self, writer: Any, size: int) -> None:
        """Add it to a GGUF writer, filled up to the ``size`` of the model's embedding."""
        fill = range(len(self.tokens), size)
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.cut)
        writer.add_token_list([*self.tokens, *(f"[PAD{place}]" for place in fill)])
        writer.add_token_types([*self.kinds, *(_UNUSED for _ in fill)])
        if self.scores:
            writer.add_token_scores([*self.scores, *(-1e4 for _ in fill)])
        if self.merges:
            writer.add_token_merges(list(self.merges))
        for name, token in self.ids.items():
            getattr(writer, f"add_{name}_token_id")(token)
        writer.add_add_bos_token(self.adds_start)
        writer.add_add_space_prefix(self.prefix_space)
        if self.template is not None:
            writer.add_chat_template(self.template)


def _vocabulary(content: dict[str, Any], folder: Path) -> Vocabulary:
    model = content["model"]
    kind = model.get("type")
    steps = _steps(content.get("pre_tokenizer"))
    byte_level = any(step.get("type") == "ByteLevel" for step in steps)
    if kind != "BPE" or not (byte_level or model.get("byte_fallback")):
        raise ModelError(
            f"{folder / 'tokenizer.json'}: is a {kind} tokenizer without bytes; llama.cpp can be given"
            " byte-level BPE or BPE with byte tokens"
        )
    places: dict[str, int] = dict(model["vocab"])
    added = {each["content"]: each for each in content.get("added_tokens") or []}
    places.update((token, each["id"]) for token, each in added.items())
    names = {place: token for token, place in places.items()}
    count = range(max(names) + 1)
    tokens = tuple(names.get(place, f"[PAD{place}]") for place in count)
    merges = tuple(each if isinstance(each, str) else " ".join(each) for each in model.get("merges") or [])
    cut, exact = _cut(steps) if byte_level else ("default", True)
    settings = _settings(folder)
    ids = _special_ids(settings, places)
    ids.update(_end_of_turn(folder, ids.get("eos")))
    return Vocabulary(
        model="gpt2" if byte_level else "llama",
        cut=cut,
        exact=exact,
        tokens=tokens,
        kinds=tuple(
            _kind(names[place], added, model.get("unk_token")) if place in names else _UNUSED
            for place in count
        ),
        scores=() if byte_level else _scores(tokens, merges),
        merges=merges if byte_level else (),
        ids=ids,
        adds_start=_adds(content, settings.get("bos_token"), settings.get("add_bos_token")),
        prefix_space=not byte_level and "Prepend" in json.dumps(content.get("normalizer")),
        template=settings.get("chat_template"),
    )


def _steps(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps that cut a text before it is tokenised."""
    if pre_tokenizer is None:
        return []
    found: list[dict[str, Any]] = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return found


def _cut(steps: list[dict[str, Any]]) -> tuple[str, bool]:
    """Name llama.cpp's way to cut text that is this one, or comes nearest."""
    for step in steps:
        pattern = (step.get("pattern") or {}).get("Regex")
        if pattern is not None:
            return (_CUTS[pattern], True) if pattern in _CUTS else (_NEAREST_CUT, False)
    by_bytes = next(step for step in steps if step.get("type") == "ByteLevel")
    return "gpt-2", bool(by_bytes.get("use_regex", True))


def _kind(token: str, added: dict[str, Any], unknown: str | None) -> int:
    if token in added:
        return _CONTROL if added[token].get("special") else _USER_DEFINED
    if _BYTE_TOKEN.fullmatch(token):
        return _BYTE
    if token == unknown:
        return _UNKNOWN
    return _NORMAL


def _scores(tokens: tuple[str, ...], merges: tuple[str, ...]) -> tuple[float, ...]:
    """Give what is merged earlier the higher score, as llama.cpp merges by score."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    return tuple(-float(ranks.get(token, 0)) for token in tokens)


def _special_ids(settings: dict[str, Any], places: dict[str, int]) -> dict[str, int]:
    """Return the ids of the special tokens that llama.cpp has names for."""
    found = {}
    for name, key in (("bos", "bos_token"), ("eos", "eos_token"), ("pad", "pad_token"), ("unk", "unk_token")):
        token = settings.get(key)
        token = token.get("content") if isinstance(token, dict) else token
        if token in places:
            found[name] = places[token]
    return found


def _end_of_turn(folder: Path, end: int | None) -> dict[str, int]:
    """Return the token that ends an answer where that is not the end of text: llama.cpp would write on."""
    file = folder / "generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    ends = settings.get("eos_token_id")
    others = [each for each in ends if each != end] if isinstance(ends, list) else []
    return {"eot": int(others[0])} if others else {}


def _adds(content: dict[str, Any], start: Any, wanted: Any) -> bool:
    """Say whether the tokenizer puts the start token before a text by itself."""
    start = start.get("content") if isinstance(start, dict) else start
    after = content.get("post_processor") or {}
    pieces = [piece for step in after.get("processors", [after]) for piece in step.get("single") or []]
    return bool(wanted) or any(
        (each.get("SpecialToken") or {}).get("id") == start for each in pieces if start is not None
    )


def _settings(folder: Path) -> dict[str, Any]:
    """Return tokenizer_config.json, with the chat template wherever it is kept."""
    file, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if template.is_file():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    return settings
