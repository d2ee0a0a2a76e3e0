"""Evaluate nano: bits per byte on unseen text and what its writing is worth; then fill the model card.

Bits: held-out documents of every collection, and completions of unseen simulator seeds given their prompts.
Writing: prompts of unseen seeds, with and without the constraint; whether the markup is well-formed, each
instruction followed. Writes OUT/evaluation.json, OUT/evaluation.md and the marked sections of the card.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from tokenizers import Tokenizer

from recipes.nano import bits, card, console, corpora, data, simulated, tokenizer, writing
from recipes.nano.files import replacing
from spellbound.directives import StoryPrompt
from spellbound.engine import load_model
from spellbound.jamba import JambaForCausalLM
from spellbound.story import WriteOptions, collect
from spellbound.story.local import LocalGenerator


def chosen(folder: Path, collection: str, limit: int) -> Iterator[corpora.Document]:
    """Held-out documents of a collection, each shortened so that all of them fit `limit` bytes."""
    documents = [document for document in corpora.read(folder, collection) if corpora.held_out(document.id)]
    for document in documents:
        room = limit // len(documents)
        yield replace(document, text=document.text.encode()[:room].decode("utf-8", "ignore"))


def measure_corpora(
    network: JambaForCausalLM, bpe: Tokenizer, folder: Path, limit: int
) -> list[dict[str, Any]]:
    """Bits per byte of each collection's held-out documents."""
    found: list[dict[str, Any]] = []
    for collection in track(corpora.collections(folder), description="bits per byte"):
        documents = list(chosen(folder, collection, limit))
        if not documents:
            continue
        sequences = [data.plain(bpe, document.text) for document in documents]
        measured = bits.measure(
            network, sequences, sum(len(document.text.encode()) for document in documents)
        )
        found.append(_entry(collection, documents[0].lang, measured))
    return found


def measure_simulator(network: JambaForCausalLM, bpe: Tokenizer, stories: int) -> dict[str, Any]:
    """Bits per byte of unseen completions, each given its prompt."""
    examples = list(simulated.unseen(stories))
    sequences = [data.told(bpe, example.prompt.render(), example.completion) for example in examples]
    longest = max(len(sequence.ids) for sequence in sequences)
    size = sum(len(example.completion.encode()) for example in examples)
    # Rows as long as the longest: a completion has to see all of its prompt.
    measured = bits.measure(network, sequences, size, max(longest, bits.ROW))
    return _entry("simulator, given the prompt", "en", measured)


def _entry(source: str, lang: str, measured: bits.Measured) -> dict[str, Any]:
    value = round(measured.bits_per_byte, 3)
    return {
        "source": source,
        "lang": lang,
        "documents": measured.documents,
        "bytes": measured.bytes,
        "bits": value,
    }


def local_generate(generator: LocalGenerator, max_tokens: int) -> writing.Generate:
    """The engine of this process as the callable that is measured."""

    def generate(prompt: StoryPrompt, seed: int, constrained: bool) -> writing.Written:
        options = WriteOptions(seed=seed, constrain=constrained, max_tokens=max_tokens)
        text, ending = collect(generator.write(prompt, options))
        mended = len(ending.repairs)
        return writing.Written(text, mended, ending.reason == "stop")

    return generate


def measure_writing(generate: writing.Generate, stories: int) -> dict[str, Any]:
    """Tallies with and without the constraint over the same prompts and seeds."""
    tallies = {"constrained": writing.Tally(), "free": writing.Tally()}
    examples = enumerate(simulated.unseen(stories))
    for seed, example in track(examples, description="writing", total=stories):
        for name, tally in tallies.items():
            tally.add(example, generate(example.prompt, seed, name == "constrained"))
    return {name: tally.report() for name, tally in tallies.items()}


def samples(generate: writing.Generate, count: int) -> list[dict[str, str]]:
    """The first unseen prompts and what was written: not picked."""
    return [
        {"prompt": example.prompt.render(), "written": generate(example.prompt, seed, True).text}
        for seed, example in enumerate(simulated.unseen(count))
    ]


def main(arguments: argparse.Namespace) -> None:
    """Measures the model folder; needs OUT/export.json of the same model for the card."""
    torch.set_num_threads(arguments.threads)
    started = time.monotonic()
    corpora.collections(arguments.corpora)
    bpe = tokenizer.load(arguments.model).backend_tokenizer
    network = load_model(arguments.model, device="cpu", dtype="float32").eval()
    found: dict[str, Any] = {"bits": measure_corpora(network, bpe, arguments.corpora, arguments.bytes)}
    found["bits"].append(measure_simulator(network, bpe, arguments.stories))
    if arguments.stories:
        generator = LocalGenerator(arguments.model, device="cpu", dtype="float32")
        generate = local_generate(generator, arguments.max_tokens)
        found["writing"] = measure_writing(generate, arguments.stories)
        found["samples"] = samples(generate, arguments.samples)
    found["seconds"] = round(time.monotonic() - started)
    with replacing(arguments.out / "evaluation.json") as draft:
        draft.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    sections = card.sections(arguments.out)
    with replacing(arguments.out / "evaluation.md") as draft:
        draft.write_text("\n\n".join(sections.values()) + "\n", encoding="utf-8")
    card.fill(arguments.model / "README.md", sections)
    print(f"{arguments.model / 'README.md'}: filled, {found['seconds']} s")


if __name__ == "__main__":
    options = console.parser("evaluate", __doc__)
    console.add_corpora(options)
    options.add_argument("--model", type=Path, default=Path("models/nano"), help="model folder, as exported")
    options.add_argument("--bytes", type=int, default=60_000, help="bytes a collection to measure bits on")
    options.add_argument("--stories", type=int, default=200, help="unseen seeds to write")
    options.add_argument("--max-tokens", type=int, default=512, help="longest passage")
    options.add_argument("--samples", type=int, default=3, help="samples in the card")
    options.add_argument("--threads", type=int, default=2, help="threads of torch")
    raise SystemExit(console.run(main, options.parse_args()))
