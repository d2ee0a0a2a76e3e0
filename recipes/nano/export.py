"""Export nano: OUT/sft/checkpoint.pt and OUT/tokenizer -> a model folder that whatever reads Jamba can load.

Weights are stored in the 16-bit format whose logits are nearest to the float32 weights'; it is measured.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from recipes.nano import console, loop, model, packing, tokenizer
from recipes.nano.files import replacing, replacing_folder
from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM

LIMIT = 40_000_000
"""Bytes the folder may take in the repository."""
FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def trained(out: Path, stage: str) -> JambaForCausalLM:
    """The model of a stage's checkpoint, in float32."""
    network = JambaForCausalLM(model.config())
    network.load_state_dict(loop.read_checkpoint(out / stage)["model"])
    network.eval()
    return network


@torch.inference_mode()
def rounding_errors(network: JambaForCausalLM, input_ids: torch.Tensor) -> dict[str, float]:
    """For each format: root mean square change of the logits, relative to theirs, from weights rounded to it.

    Computed in float32 from rounded weights, as the loader does on a CPU.
    """
    wanted = network(input_ids).logits
    kept = {name: weight.clone() for name, weight in network.state_dict().items()}
    errors: dict[str, float] = {}
    for name, dtype in FORMATS.items():
        network.load_state_dict({key: weight.to(dtype).float() for key, weight in kept.items()})
        found = network(input_ids).logits
        errors[name] = float((found - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt())
    network.load_state_dict(kept)
    return errors


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
                f"the model takes {size:,} bytes, {LIMIT:,} are allowed; make it smaller in model.py"
            )
    return size


def facts(network: JambaForCausalLM, out: Path) -> dict[str, Any]:
    """What the card says of size and training."""
    experts = sum(weight.numel() for name, weight in network.named_parameters() if ".experts." in name)
    total = sum(weight.numel() for weight in network.parameters())
    idle = experts * (1 - network.config.num_experts_per_tok / network.config.num_experts)
    found: dict[str, Any] = {"parameters": total, "active_parameters": round(total - idle)}
    found |= {"config": network.config.to_dict(), "mixers": network.config.layers_block_type, "training": {}}
    # In the order in which they ended; "sft-1" is a first run of sft, put aside under that name.
    for path in sorted(out.glob("*/checkpoint.pt"), key=lambda path: path.stat().st_mtime):
        stage = path.parent.name
        state = loop.read_checkpoint(path.parent)
        steps, schedule = state["step"], state["schedule"]
        length = packing.read(out / "data" / stage.partition("-")[0]).meta["length"]
        found["training"][stage] = {
            "steps": steps,
            "steps_planned": schedule["steps"],
            "tokens": steps * schedule["batch"] * length,
            "minutes": round(state["seconds"] / 60, 1),
            "rate": schedule["rate"],
            "rows_per_step": schedule["batch"],
            "row_tokens": length,
        }
    return found


def main(arguments: argparse.Namespace) -> None:
    """Writes the model folder and OUT/export.json."""
    network = trained(arguments.out, arguments.stage)
    told = facts(network, arguments.out)
    rows = packing.read(arguments.out / "data" / "sft_valid")
    errors = rounding_errors(network, rows.batch(range(min(4, len(rows))))["input_ids"])
    best = min(errors, key=lambda name: errors[name])
    size = write(network, arguments.out / "tokenizer", arguments.target, FORMATS[best])
    told |= {"format": best, "bytes": size, "rounding_errors": errors}
    with replacing(arguments.out / "export.json") as draft:
        draft.write_text(json.dumps(told, indent=1), encoding="utf-8")
    print(f"{arguments.target}: {told['parameters']:,} parameters, {best}, {size / 1e6:.1f} MB; {errors}")


if __name__ == "__main__":
    options = console.parser("export", __doc__)
    options.add_argument("--target", type=Path, default=Path("models/nano"), help="folder to write")
    options.add_argument("--stage", default="sft", help="folder under OUT with the checkpoint")
    raise SystemExit(console.run(main, options.parse_args()))
