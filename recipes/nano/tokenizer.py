"""Train the tokenizer: byte-level BPE, 8,192 entries, every text of every language without loss.

A tiny model has to copy speaker IDs, so capitals and digits in a run are one token each: an ID is the same
six tokens in a sheet and in a quote. The tags are one token each and stay visible in decoded text.
"""

import argparse
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from recipes.nano import console, corpora
from recipes.nano.data import EXAMPLES_FROM, STORIES_FROM, require_apart
from spellbound.data.simulator import to_examples
from spellbound.errors import InputError
from spellbound.files import replacing_folder

VOCABULARY = 8192
PAD, BOS, EOS, WRITE = "<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|write|>"
SPECIAL = (PAD, BOS, EOS, WRITE)
TAGS = (
    '<quote speaker="',
    '">',
    "</quote>",
    "<action>",
    "</action>",
    "<sound>",
    "</sound>",
    "<pastStory>",
    "</pastStory>",
    "<writingInstructions>",
    "</writingInstructions>",
    "Speaker ID: ",
)
PATTERN = "|".join(
    (
        r"[A-Z](?=[A-Z0-9])|(?<=[A-Z0-9])[A-Z](?![a-z])|\p{N}",
        r"['’](?:s|t|re|ve|m|ll|d)(?!\p{L})",
        r" ?(?![A-Z][A-Z0-9])[\p{L}\p{M}][\p{Ll}\p{Lo}\p{Lm}\p{M}]*",
        r" ?[^\s\p{L}\p{N}\p{M}]+",
        r"[^\S\r\n]*[\r\n]+",
        r"[^\S\r\n]+(?!\S)|\s",
    )
)
"""How text falls into pieces before merging; no merge crosses a piece."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'] + '<|endoftext|>' }}{% else %}"
    "{{ '<|startoftext|>' + message['content'] + '<|write|>' }}{% endif %}{% endfor %}"
)
"""The model writes after `<|write|>`, with or without `add_generation_prompt`."""


def train(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """A byte-level BPE tokenizer with exactly `vocabulary` entries if the texts are varied enough."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Sequence(
        [Split(Regex(PATTERN), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocabulary - len(TAGS),
        min_frequency=2,
        show_progress=False,
        special_tokens=list(SPECIAL),
        initial_alphabet=ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator((prose(text) for text in texts), trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return tokenizer


def prose(text: str) -> str:
    """The text without our tags: each is one token already and must not use up merges."""
    return re.sub("|".join(re.escape(tag) for tag in TAGS), "\n", text)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the folder that `AutoTokenizer.from_pretrained` reads."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[WRITE],
        clean_up_tokenization_spaces=False,
        model_max_length=262_144,
        chat_template=CHAT_TEMPLATE,
    )
    with replacing_folder(folder) as draft:
        fast.save_pretrained(draft)


def load(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in this folder; an error that names the command which makes it."""
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"no tokenizer in '{folder}'; make it with: python -m recipes.nano.tokenizer")
    return AutoTokenizer.from_pretrained(folder)


# Share of the sample by beginning of the collection's name, in millions of characters: English gets half,
# since that is what the model will write; each other language gets enough for its common words.
SAMPLE = {
    "simple_en": 0.5,
    "fairytales_en": 3.0,
    "eltec_en": 2.0,
    "simple_": 0.3,
    "drama_nl": 1.0,
    "eltec_": 0.8,
}
REPEATED = {"simple_ar": 8, "simple_en": 3}
"""Collections too small to win merges otherwise."""


def sample(folder: Path, seed: int, stories: int) -> Iterator[str]:
    """Texts to train on: pieces of the corpora's training documents, then simulated stories."""
    for collection in corpora.collections(folder):
        size = next((size for start, size in SAMPLE.items() if collection.startswith(start)), 0.0)
        pieces = [
            document.text[start : start + 4000]
            for document in corpora.read(folder, collection)
            if size and not corpora.held_out(document.id)
            for start in range(0, len(document.text), 4000)
        ]
        random.Random(f"{seed} {collection}").shuffle(pieces)
        yield from pieces[: int(size * 250) + 1] * REPEATED.get(collection, 1)
    for seed in range(STORIES_FROM, STORIES_FROM + stories):
        for example in to_examples(seed):
            yield from (example.prompt.render(), example.completion)


def main(arguments: argparse.Namespace) -> None:
    """Trains on the sample and writes OUT/tokenizer."""
    require_apart("stories", arguments.stories, STORIES_FROM, EXAMPLES_FROM)
    tokenizer = train(sample(arguments.corpora, arguments.seed, arguments.stories), arguments.vocabulary)
    save(tokenizer, arguments.out / "tokenizer")
    print(f"{arguments.out / 'tokenizer'}: {tokenizer.get_vocab_size()} entries")


if __name__ == "__main__":
    options = console.parser("tokenizer", __doc__)
    console.add_corpora(options)
    options.add_argument("--stories", type=int, default=2000, help="simulated stories in the sample")
    options.add_argument("--vocabulary", type=int, default=VOCABULARY, help="entries")
    raise SystemExit(console.run(main, options.parse_args()))
