"""Drill nano in copying: rows of OUT/data/drill -> OUT/drill/checkpoint.pt, log.jsonl, log.png (loss curve).

Begins from the checkpoint of another stage. Stop it whenever you like, as with pretraining.
"""

from recipes.nano import console, training

if __name__ == "__main__":
    options = training.parser("drill", __doc__, rate=2e-3, batch=8, tokens=1_500_000)
    training.add_begin(options, "pretrain")
    raise SystemExit(console.run(training.continued("drill"), options.parse_args()))
