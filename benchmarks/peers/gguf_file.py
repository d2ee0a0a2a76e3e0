"""The measured models as GGUF files, the format of llama.cpp."""

from pathlib import Path

from benchmarks.configs import our_model
from benchmarks.peers import peer_module
from spellbound.train.gguf_file import write_gguf


def gguf_path(config: str, quantization: str, folder: Path) -> Path:
    """Return the file of a config's weights in ``folder``, written now unless it is there."""
    path = folder / f"{config}-{quantization}.gguf"
    if not path.exists():
        peer_module("gguf")
        model = our_model(config)
        unfinished = path.with_suffix(".unfinished")
        write_gguf(unfinished, model.config, model.state_dict(), quantization=quantization, name=config)
        unfinished.replace(path)
    return path
