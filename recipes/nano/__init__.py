"""How the bundled model is made: tokenizer, data, pretraining, SFT, evaluation, export. See README.md."""
