"""llama.cpp on our weights, through the plain C calls that llama-cpp-python passes on."""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import named
from benchmarks.measure import Settings
from benchmarks.peers import peer_module
from benchmarks.peers.gguf_file import gguf_path

_F32 = 0  # ggml's number for the type


class LlamaReader:
    """A llama.cpp context of one sequence; keys and values in float32, as ours."""

    def __init__(self, config: str, quantization: str, settings: Settings, *, batch: int) -> None:
        path = gguf_path(config, quantization, settings.work)
        self.library = llama = peer_module("llama_cpp")
        self.version = named("llama-cpp-python")
        self.batch_size = batch
        self._log = llama.llama_log_callback(lambda *_: None)  # kept, for the library keeps its address
        llama.llama_log_set(self._log, ctypes.c_void_p(0))
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path.name}")
        wanted = llama.llama_context_default_params()
        wanted.n_ctx, wanted.n_seq_max, wanted.no_perf = settings.context, 1, True
        wanted.n_batch = wanted.n_ubatch = batch
        wanted.n_threads = wanted.n_threads_batch = settings.threads
        wanted.type_k = wanted.type_v = _F32
        self.context = llama.llama_init_from_model(self.model, wanted)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context for {path.name}")
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.batch = llama.llama_batch_init(batch, 0, 1)
        self.position = 0

    def restart(self) -> None:
        """Clear the memory of the sequence."""
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)
        self.position = 0

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Decode the tokens in batches; return the logits (V) after the last."""
        for begin in range(0, len(tokens), self.batch_size):
            part = tokens[begin : begin + self.batch_size]
            self._fill(part, last=begin + len(part) == len(tokens))
            code = self.library.llama_decode(self.context, self.batch)
            if code:
                raise RuntimeError(f"llama_decode returns {code} at token {self.position}")
            self.position += len(part)
        logits = self.library.llama_get_logits_ith(self.context, -1)
        return torch.from_numpy(np.ctypeslib.as_array(logits, shape=(self.vocabulary,)))

    def _fill(self, part: Sequence[int], *, last: bool) -> None:
        self.batch.n_tokens = len(part)
        for place, token in enumerate(part):
            self.batch.token[place] = token
            self.batch.pos[place] = self.position + place
            self.batch.n_seq_id[place] = 1
            self.batch.seq_id[place][0] = 0
            self.batch.logits[place] = last and place == len(part) - 1
