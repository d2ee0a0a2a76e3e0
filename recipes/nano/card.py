"""The model card's figures: from the JSON that the commands leave in OUT into marked sections of the card."""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.nano import console
from recipes.nano.evaluate import MODES
from recipes.nano.export import BESIDE
from recipes.nano.measuring import Passage, gain
from spellbound.errors import InputError
from spellbound.files import replacing

Json = dict[str, Any]
MEASUREMENTS = {"stories": "before SFT", "sft": "after SFT", "ratings": "after ratings"}
"""What `evaluate` was called with, and what the card calls it."""
MODE_NAMES = {"constrained": "with the constraint", "free": "without"}
SHARES = (
    "well-formed",
    "ended by itself",
    "has a quote where tags were asked for",
    "speaker named beside the quote",
    "wrong speaker",
    "instructions followed",
)


def sections(out: Path) -> dict[str, str]:
    """Markdown by section name, made from export.json and evaluation/*.json, *.jsonl."""
    export = _read(out / "export.json", "export")
    found = {
        title: _read(out / "evaluation" / f"{name}.json", f"evaluate {name}")
        for name, title in MEASUREMENTS.items()
    }
    last = out / "evaluation"
    return {
        "size": size(export),
        "training": training(export["training"]),
        "data": data(export["training"]),
        "bits": bits(found),
        "writing": writing(found),
        "gain": gains(read_passages(last / "sft.jsonl"), read_passages(last / "ratings.jsonl")),
        "samples": samples(found[MEASUREMENTS["sft"]]["samples"]),
    }


def _read(path: Path, command: str) -> Json:
    if not path.is_file():
        raise InputError(f"'{path}' is missing; make it with: python -m recipes.nano.{command}")
    read: Json = json.loads(path.read_text(encoding="utf-8"))
    return read


def read_passages(path: Path) -> list[Passage]:
    """The measured passages that `evaluate` left."""
    if not path.is_file():
        raise InputError(f"'{path}' is missing; make it with: python -m recipes.nano.evaluate {path.stem}")
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [Passage(**{**row, "followed": tuple(map(tuple, row["followed"]))}) for row in rows]


def fill(path: Path, made: dict[str, str]) -> None:
    """Replaces what is between `<!-- NAME -->` and `<!-- /NAME -->` for every section."""
    if not path.is_file():
        raise InputError(f"model card '{path}' is missing; restore it from the repository")
    text = path.read_text(encoding="utf-8")
    for name, content in made.items():
        marked = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        found = list(marked.finditer(text))
        if len(found) != 1:
            raise InputError(f"'{path}' has {len(found)} sections '<!-- {name} -->'; it needs exactly one")
        text = f"{text[: found[0].end(1)]}{content}\n{text[found[0].start(2) :]}"
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def size(export: Json) -> str:
    """Parameters and bytes."""
    errors = ", ".join(f"{name} {error:.1e}" for name, error in export["rounding_errors"].items())
    shape, mixers = export["config"], export["mixers"]
    tied = shape["tie_word_embeddings"]
    attention = [str(number) for number, mixer in enumerate(mixers) if mixer == "attention"]
    return (
        f"{export['parameters']:,} parameters, {export['active_parameters']:,} of them active for a token; "
        f"{export['bytes'] / 1e6:.1f} MB as {export['format']}, whose logits are nearest to those of the "
        f"float32 weights (relative root mean square error: {errors}).\n\n"
        f"{len(mixers)} layers, from 0 on: attention in {' and '.join(attention)}, Mamba-1 in the others; "
        f"hidden size {shape['hidden_size']}, {shape['mamba_d_state']} states a channel, expansion "
        f"{shape['mamba_expand']}. Of every {shape['expert_layer_period']} feed-forwards one mixes "
        f"{shape['num_experts']} experts, {shape['num_experts_per_tok']} of which work on a token. "
        f"Vocabulary {shape['vocab_size']:,}, embeddings {'tied' if tied else 'apart'}."
    )


def training(stages: dict[str, Json]) -> str:
    """Steps, tokens and time of each stage."""
    rows = []
    for stage, told in stages.items():
        what = "all weights" if told["method"] == "full" else "adapter alone"
        shape = f"{told['rows_per_step']} x {told['row_tokens']:,}"
        figures = (f"{told['tokens']:,}", f"{told['steps']:,}", shape, told["rate"], told["minutes"])
        rows.append([stage, what, *map(str, figures)])
    head = ["stage", "trained", "tokens read", "steps", "rows x tokens in a step", "highest rate", "minutes"]
    return _table(head, rows, words=2)


def data(stages: dict[str, Json]) -> str:
    """What there was to learn from, by stage and source."""
    rows = []
    for stage, told in stages.items():
        for each in told["data"]:
            numbers = (f"{each[key]:,}" for key in ("samples", "tokens", "learnt"))
            left = (f"{each[key]:,}" for key in ("held_out", "dropped"))
            licences = ", ".join(each["licences"]) or "–"
            rows.append([stage, each["source"], *numbers, f"{each['repeats']:g}", *left, licences])
    head = ["stage", "source", "samples", "tokens", "learnt", "times an epoch", "held out", "too long"]
    return _table([*head, "licence"], rows, words=2)


def bits(found: dict[str, Json]) -> str:
    """Bits per byte by source, a column a measurement; a dash where there is none."""
    columns = {
        title: {each["source"]: each for each in told.get("bits", [])} for title, told in found.items()
    }
    rows = []
    for source, entry in {name: each for column in columns.values() for name, each in column.items()}.items():
        values = [f"{column[source]['bits']:.3f}" if source in column else "–" for column in columns.values()]
        rows.append([source, entry["lang"], f"{entry['documents']:,}", f"{entry['bytes']:,}", *values])
    return _table(["held-out text", "language", "documents", "bytes", *columns], rows, words=2)


def writing(found: dict[str, Json]) -> str:
    """Shares with their intervals, with the constraint and without, then instructions by kind."""
    parts = []
    for mode, title in MODE_NAMES.items():
        columns = {name: told[mode] for name, told in found.items()}
        rows = [[name, *(share(column[name]) for column in columns.values())] for name in SHARES]
        kinds = sorted({kind for column in columns.values() for kind in column["kinds"]})
        rows += [
            [f"· {kind}", *(share(each["kinds"].get(kind)) for each in columns.values())] for kind in kinds
        ]
        rows.append(["words a passage, mean", *(f"{column['words']:.0f}" for column in columns.values())])
        parts.append(_table([title, *columns], rows, words=1))
    return "\n\n".join(parts)


def share(entry: Json | None) -> str:
    """`93.5 % (90.1–95.8) of 200`, or a dash if there was nothing."""
    if not entry or not entry["of"]:
        return "–"
    middle, low, high = (100 * entry[key] for key in ("share", "low", "high"))
    return f"{middle:.1f} % ({low:.1f}–{high:.1f}) of {entry['of']:,}"


def gains(before: Sequence[Passage], after: Sequence[Passage]) -> str:
    """What the adapter made of ratings gains, by the rule that stands for the raters."""
    rows = []
    for mode, constrained in MODES.items():
        old, new = ([one for one in side if one.constrained == constrained] for side in (before, after))
        told = gain(old, new)
        figures = (f"{told[key]:.3f}" for key in ("before", "after"))
        interval = f"{told['low']:+.3f} to {told['high']:+.3f}"
        rows.append([MODE_NAMES[mode], f"{told['prompts']:,}", *figures, f"{told['gain']:+.3f}", interval])
    head = ["mean worth, 0 to 1", "prompts", MEASUREMENTS["sft"], MEASUREMENTS[BESIDE], "gain"]
    return _table([*head, "95 % interval"], rows, words=1)


def samples(entries: list[dict[str, str]]) -> str:
    """Prompts and passages as they are, in fences longer than any in them."""
    blocks: list[str] = []
    for number, entry in enumerate(entries, 1):
        prompt, written = _fenced(entry["prompt"]), _fenced(entry["written"])
        blocks.append(f"Sample {number}, prompt:\n\n{prompt}\n\nwritten:\n\n{written}")
    return "\n\n".join(blocks)


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """A Markdown table whose first columns are words and the others numbers, on the right."""
    rule = "|" + "---|" * words + "---:|" * (len(head) - words)
    return "\n".join([_row(head), rule, *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: argparse.Namespace) -> None:
    """Fills the card."""
    made = sections(arguments.out)
    fill(arguments.card, made)
    print(f"{arguments.card}: {', '.join(made)}")


if __name__ == "__main__":
    options = console.parser("card", __doc__)
    options.add_argument("--card", type=Path, default=Path("models/nano/README.md"), help="file to fill")
    raise SystemExit(console.run(main, options.parse_args()))
