"""Pretrain nano: rows of OUT/data/pretrain -> OUT/pretrain/checkpoint.pt, log.jsonl, log.png (loss curve).

Stop it whenever you like: the same command goes on from the last checkpoint (one every two minutes).
"""

import argparse

from recipes.nano import console, model, training


def main(arguments: argparse.Namespace) -> None:
    """Trains from weights drawn from the seed."""
    training.train("pretrain", arguments, lambda network: model.initialise(network, arguments.seed))


if __name__ == "__main__":
    options = training.parser("pretrain", __doc__, rate=2e-3, batch=8, tokens=6_000_000)
    raise SystemExit(console.run(main, options.parse_args()))
