"""Examples and stories to trained weights or an adapter: recipe, tokens, batches, loss, loop, checkpoints."""
