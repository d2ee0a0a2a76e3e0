"""Tune nano on directives: rows of OUT/data/sft -> OUT/sft/checkpoint.pt, log.jsonl, log.png (loss curve).

Begins from OUT/pretrain/checkpoint.pt, finished or not. Stop it whenever you like, as with pretraining.
"""

import argparse

from recipes.nano import console, loop, training
from spellbound.jamba import JambaForCausalLM


def main(arguments: argparse.Namespace) -> None:
    """Trains from the pretrained weights."""

    def begin(network: JambaForCausalLM) -> None:
        network.load_state_dict(loop.read_checkpoint(arguments.out / "pretrain")["model"])

    training.train("sft", arguments, begin)


if __name__ == "__main__":
    options = training.parser("sft", __doc__, rate=1.5e-3, batch=4, tokens=8_000_000)
    raise SystemExit(console.run(main, options.parse_args()))
