"""Examples and stories to trained weights or an adapter: recipe, tokens, batches, loss, loop, checkpoints."""

import os

# MKL takes fewer threads where it thinks that few are free, and then the last digits of a product differ from
# those of the unbroken run. It looks here when it first multiplies.
os.environ.setdefault("MKL_DYNAMIC", "FALSE")

# oneDNN keeps code for as many shapes of bfloat16 products as this, half a megabyte each; usually a thousand.
# Rows are filled up to few different numbers (spellbound.jamba.linear), so a step has fewer shapes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
