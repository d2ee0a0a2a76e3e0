"""A tiny model folder, random but seeded: what every test that writes with a real model uses."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from spellbound.jamba import JambaForCausalLM

# As `spellbound.train` sets it, which may be imported after other tests have multiplied.
os.environ.setdefault("MKL_DYNAMIC", "FALSE")

SPECIALS = ("<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|write|>")
TAGS = ('<quote speaker="', '">', "</quote>", "<action>", "</action>", "<sound>", "</sound>")
VOCABULARY = 320
TEMPLATE = (
    "{% for message in messages %}<|startoftext|>{{ message['content'] }}"
    "{% if add_generation_prompt %}<|write|>{% endif %}{% endfor %}"
)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Config, tokenizer with a chat template, and weights, as `--model DIR` takes them."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tokenizer(folder)
    make_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model() -> JambaForCausalLM:
    """The same weights in memory."""
    return make_model()


def make_model(seed: int = 0) -> JambaForCausalLM:
    """Four layers with every kind of part: Mamba, attention, dense and experts."""
    import torch
    from transformers import JambaConfig

    from spellbound.jamba import JambaForCausalLM

    config = JambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_layer_period=4,
        attn_layer_offset=2,
        expert_layer_period=2,
        expert_layer_offset=1,
        num_experts=4,
        num_experts_per_tok=2,
        mamba_d_state=8,
        mamba_dt_rank=4,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
    )
    torch.manual_seed(seed)
    model: JambaForCausalLM = JambaForCausalLM(config).eval()
    return model


def write_tokenizer(folder: Path, template: str | None = TEMPLATE) -> None:
    """Byte-level tokenizer: every byte, and the tags."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={piece: place for place, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(piece, special=True) for piece in SPECIALS])
    tokenizer.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in TAGS])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIALS[1],
        eos_token=SPECIALS[2],
        pad_token=SPECIALS[0],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heeded() -> None:
    """Started in the background the tests ignore Ctrl-C, and so would whatever they start."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
