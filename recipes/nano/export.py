"""Export nano: the weights of a run -> a model folder that whatever reads Jamba can load.

Weights are stored in the 16-bit format whose logits are nearest to the float32 weights'; it is measured.
Writes OUT/export.json, too: what the card says of size, stages and data.
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.utils.logging import disable_progress_bar

from recipes.nano import console, tokenizer
from spellbound.data.ratings import read_pairs
from spellbound.data.rows import read_examples
from spellbound.engine import load_model
from spellbound.errors import InputError
from spellbound.files import replacing, replacing_folder
from spellbound.jamba import JambaForCausalLM
from spellbound.train.dataset import train_sources
from spellbound.train.encoding import Encoder
from spellbound.train.folder import ADAPTER, MODEL, RECIPE, TOKENS
from spellbound.train.log import read_log
from spellbound.train.preferences.rows import encoded
from spellbound.train.preferences.settings import PreferenceRecipe
from spellbound.train.recipe import ScheduleSettings
from spellbound.train.recipe_file import read_recipe, read_settings
from spellbound.train.tokens import read_tokens

STAGES, BESIDE = ("language", "stories", "sft"), "ratings"
"""Folders of the runs, in order; and the one whose adapter, from preferences, is not in the weights."""
LIMIT = 40_000_000
"""Bytes the folder may take in the repository."""
FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
MEASURED = 4
"""Examples on which rounding is measured."""
Json = dict[str, Any]


@torch.inference_mode()
def rounding_errors(network: JambaForCausalLM, texts: list[list[int]]) -> dict[str, float]:
    """For each format: root mean square change of the logits, relative to theirs, from weights rounded to it.

    Computed in float32 from rounded weights, as the loader does on a CPU.
    """
    wanted = _logits(network, texts)
    kept = {name: weight.clone() for name, weight in network.state_dict().items()}
    errors: dict[str, float] = {}
    for name, dtype in FORMATS.items():
        network.load_state_dict({key: weight.to(dtype).float() for key, weight in kept.items()})
        found = _logits(network, texts)
        errors[name] = float((found - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt())
    network.load_state_dict(kept)
    return errors


def _logits(network: JambaForCausalLM, texts: list[list[int]]) -> torch.Tensor:
    return torch.cat([network(torch.tensor([ids])).logits[0] for ids in texts])


def write(network: JambaForCausalLM, tokenizer_folder: Path, target: Path, dtype: torch.dtype) -> int:
    """Writes the model folder, file by file, each whole; returns the bytes of what was written."""
    tokens = tokenizer.load(tokenizer_folder)
    defaults = GenerationConfig(
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
        do_sample=True,
        temperature=0.8,
        min_p=0.05,
    )
    with replacing_folder(target) as draft:
        network.to(dtype).save_pretrained(draft)
        defaults.save_pretrained(draft)
        tokens.save_pretrained(draft)
        size = sum(path.stat().st_size for path in draft.iterdir())
        if size > LIMIT:
            raise InputError(
                f"the model takes {size:,} bytes, {LIMIT:,} are allowed; shrink recipes/nano/config.json"
            )
    return size


def size_facts(network: JambaForCausalLM) -> Json:
    """Parameters and shape."""
    experts = sum(weight.numel() for name, weight in network.named_parameters() if ".experts." in name)
    total = sum(weight.numel() for weight in network.parameters())
    idle = experts * (1 - network.config.num_experts_per_tok / network.config.num_experts)
    return {
        "parameters": total,
        "active_parameters": round(total - idle),
        "config": network.config.to_dict(),
        "mixers": network.config.layers_block_type,
    }


def stages(out: Path) -> dict[str, Json]:
    """What each run did, in order: those the weights went through, then the adapter's if there is one."""
    found = {stage: stage_facts(out / stage) for stage in STAGES}
    return {**found, BESIDE: adapter_facts(out / BESIDE)} if (out / BESIDE / RECIPE).is_file() else found


def stage_facts(run: Path) -> Json:
    """Steps, tokens, time and data of a run of `spellbound train`, from what it left in its folder."""
    last, recipe = _last_entry(run, "train"), read_recipe(run / RECIPE)
    return {
        "method": recipe.method,
        **_pace(last, recipe.schedule, recipe.data.length),
        "data": [
            {
                "source": counts.name.removesuffix(".parquet"),
                "samples": counts.samples,
                "tokens": counts.tokens,
                "learnt": counts.targets,
                "repeats": source.repeats,
                "held_out": counts.held_out,
                "windowed": counts.windowed,
                "dropped": counts.dropped,
                "licences": counts.licences,
            }
            for counts, source in zip(
                read_tokens(_tokens(run)).counts, train_sources(recipe.data), strict=True
            )
        ],
    }


def adapter_facts(run: Path) -> Json:
    """The same of a run of `spellbound prefer`: a sample is a pair, its tokens are those of both answers."""
    last, recipe = _last_entry(run, "prefer"), read_settings(PreferenceRecipe, run / RECIPE)
    if recipe.method != "dpo":
        raise InputError(f"{run}: was made with {recipe.method}; the card tells of pairs: train it with dpo")
    told = []
    for path in recipe.data.pairs:
        pairs = list(read_pairs([path]))
        rows = encoded("dpo", [path], recipe.data, Encoder(run / ADAPTER), recipe.schedule.seed)
        told.append(
            {
                "source": path.name.removesuffix(".parquet"),
                "samples": len(rows.rows),
                "tokens": rows.tokens,
                "learnt": sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows.rows),
                "repeats": 1,
                "held_out": 0,
                "windowed": 0,
                "dropped": rows.dropped,
                "licences": sorted({pair.licence for pair in pairs}),
            }
        )
    return {"method": recipe.method, **_pace(last, recipe.schedule, recipe.data.length), "data": told}


def _last_entry(run: Path, command: str) -> Json:
    entries = [entry for entry in read_log(run) if "seconds" in entry]
    if not entries or not (run / RECIPE).is_file():
        raise InputError(
            f"{run}: holds no finished run; make it with: spellbound {command} recipes/nano/{run.name}.toml"
        )
    return entries[-1]


def _pace(last: Json, schedule: ScheduleSettings, length: int) -> Json:
    return {
        "steps": last["step"],
        "tokens": last["tokens"],
        "minutes": round(last["seconds"] / 60, 1),
        "rate": schedule.rate,
        "shape": schedule.shape,
        "rows_per_step": schedule.batch,
        "row_tokens": length,
    }


def _tokens(run: Path) -> Path:
    """The token ids that the run's last start used: the latest, if its data were changed before it began."""
    made = sorted((run / TOKENS).glob("*/train"), key=lambda folder: folder.stat().st_mtime)
    if not made:
        raise InputError(f"{run / TOKENS}: holds no token ids; train the stage again")
    return made[-1]


def main(arguments: argparse.Namespace) -> None:
    """Writes the model folder and OUT/export.json."""
    out: Path = arguments.out
    told: Json = {"training": stages(out)}
    folder = out / STAGES[-1] / MODEL
    disable_progress_bar()  # transformers' own, of loading and saving
    network = load_model(folder, device="cpu", dtype="float32").eval()
    told |= size_facts(network)
    examples = list(islice(read_examples([out / "data" / "sft_valid.parquet"]), MEASURED))
    errors = rounding_errors(network, [sample.ids for sample in Encoder(folder).examples(examples)])
    best = min(errors, key=lambda name: errors[name])
    size = write(network, folder, arguments.target, FORMATS[best])
    told |= {"format": best, "bytes": size, "rounding_errors": errors}
    with replacing(out / "export.json") as draft:
        draft.write_text(json.dumps(told, indent=1), encoding="utf-8")
    print(f"{arguments.target}: {told['parameters']:,} parameters, {best}, {size / 1e6:.1f} MB; {errors}")


if __name__ == "__main__":
    options = console.parser("export", __doc__)
    options.add_argument("--target", type=Path, default=Path("models/nano"), help="folder to write")
    raise SystemExit(console.run(main, options.parse_args()))
