"""Tune nano on directives: rows of OUT/data/sft -> OUT/sft/checkpoint.pt, log.jsonl, log.png (loss curve).

Begins from the checkpoint of another stage, finished or not. Stop it whenever you like, as with pretraining.
"""

from recipes.nano import console, training

if __name__ == "__main__":
    options = training.parser("sft", __doc__, rate=1.5e-3, batch=4, tokens=8_000_000)
    training.add_begin(options, "drill")
    raise SystemExit(console.run(training.continued("sft"), options.parse_args()))
