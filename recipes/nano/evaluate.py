"""Let a model answer unseen prompts and measure the passages, and the bits it needs for unseen text.

Every prompt is answered with and without the constraint, with the same seed by every model, so that two
models can be compared prompt by prompt. Writes OUT/evaluation/NAME.jsonl, a passage a line, and NAME.json.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from recipes.nano import bits, console, corpora, writers
from recipes.nano.measuring import Passage, measured, summary
from spellbound.data.examples import Example
from spellbound.data.rows import read_examples
from spellbound.errors import InputError
from spellbound.files import replacing

MODES = {"constrained": True, "free": False}
SAMPLES = 3
"""Passages that are kept together with their prompts, for people to read."""


def passages(arguments: argparse.Namespace, examples: Sequence[Example]) -> Iterator[Passage]:
    """Answers to the examples' prompts, measured, in order."""
    wanted = [(seed, example, mode) for seed, example in enumerate(examples) for mode in MODES.values()]
    tasks = [
        writers.Task(
            prompt=example.prompt,
            seed=seed,
            constrained=constrained,
            temperature=arguments.temperature,
            max_tokens=arguments.max_tokens,
        )
        for seed, example, constrained in wanted
    ]
    written = writers.write_all(tasks, arguments.model, arguments.adapter, arguments.processes)
    for (_, example, constrained), answer in zip(
        wanted, console.watched(written, "writing", len(tasks)), strict=True
    ):
        yield measured(
            example, answer.text, mended=answer.mended, ended=answer.ended, constrained=constrained
        )


def samples(examples: Sequence[Example], found: Sequence[Passage]) -> list[dict[str, str]]:
    """The first prompts, and what was written for them with the constraint."""
    first = [passage.text for passage in found if passage.constrained][:SAMPLES]
    pairs = zip(examples, first, strict=False)
    return [{"prompt": example.prompt.render(), "written": text} for example, text in pairs]


def main(arguments: argparse.Namespace) -> None:
    """Measures one model."""
    started = time.monotonic()
    arguments.examples = arguments.examples or arguments.out / "data" / "sft_valid.parquet"
    if arguments.bytes:
        corpora.collections(arguments.corpora)  # before the writing, which takes long
    examples = list(islice(read_examples([arguments.examples]), arguments.prompts))
    if not examples:
        raise InputError(
            f"{arguments.examples}: there is nothing to answer; give examples, and --prompts 1 or more"
        )
    found = list(passages(arguments, examples))
    told: dict[str, Any] = {
        "model": console.run_name(arguments.model),
        "adapter": console.run_name(arguments.adapter) if arguments.adapter else "",
        "temperature": arguments.temperature,
        "prompts": len(examples),
    }
    for name, constrained in MODES.items():
        told[name] = summary([passage for passage in found if passage.constrained == constrained])
    told["samples"] = samples(examples, found)
    if arguments.bytes:
        told["bits"] = bits.measure_all(arguments)
    told["seconds"] = round(time.monotonic() - started)
    folder: Path = arguments.out / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{arguments.name}.jsonl") as draft:
        lines = (json.dumps(asdict(passage), ensure_ascii=False) for passage in found)
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with replacing(folder / f"{arguments.name}.json") as draft:
        draft.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{folder / arguments.name}.json: {told['prompts']} prompts, {told['seconds']} s")


if __name__ == "__main__":
    options = console.parser("evaluate", __doc__)
    console.add_corpora(options)
    console.add_writing(options, temperature=0.8)
    options.add_argument("name", metavar="NAME", help="what this measurement is called")
    options.add_argument("--model", type=Path, default=Path("models/nano"), help="model folder")
    options.add_argument("--adapter", type=Path, help="adapter folder")
    options.add_argument(
        "--examples", type=Path, help="whose prompts; OUT/data/sft_valid.parquet if not given"
    )
    options.add_argument("--prompts", type=int, default=1_200, help="prompts to answer")
    options.add_argument("--bytes", type=int, default=60_000, help="bytes a collection for bits; 0: none")
    raise SystemExit(console.run(main, options.parse_args()))
