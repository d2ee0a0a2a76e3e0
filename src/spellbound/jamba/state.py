"""What a Jamba remembers of the tokens it has read: convolution windows, SSM states, keys and values.

B batch, T time, S keys so far, D channels, N states, K convolution window, G key/value heads, P head
size.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spellbound.errors import StateError
from spellbound.files import replacing
from spellbound.jamba.storing import storing

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaForCausalLM

FORMAT = "spellbound-jamba-state/1"
_FIRST_CAPACITY = 256  # tokens; grows by half, so appending costs amortised constant time


class MambaState:
    """State of one Mamba layer: the last ``window`` inputs of the convolution and the SSM state."""

    def __init__(self, conv_BKD: Tensor, ssm_BDN: Tensor) -> None:
        self.conv_BKD, self.ssm_BDN = conv_BKD, ssm_BDN

    def fork(self, room: int) -> "MambaState":
        """Return a state that goes on from here while this one stays; no tensor is copied."""
        return MambaState(self.conv_BKD, self.ssm_BDN)

    def stage(self, conv_BKD: Tensor, ssm_BDN: Tensor) -> None:
        """Take the tensors after the tokens just read. The old ones may belong to the state this was forked
        from, so they are never written to."""
        self.conv_BKD, self.ssm_BDN = conv_BKD.detach(), ssm_BDN.detach()

    def fits(self, dtype: torch.dtype) -> bool:
        """Say whether the CPU's kernels can read it beside weights of ``dtype``."""
        dtypes = (self.conv_BKD.dtype, self.ssm_BDN.dtype)
        return dtypes == (dtype, torch.float32) and _readable(self.conv_BKD, self.ssm_BDN)

    def tensors(self) -> dict[str, Tensor]:
        """Name the tensors that make up the state, as the constructor takes them."""
        return {"conv": self.conv_BKD, "ssm": self.ssm_BDN}


class AttentionState:
    """Keys and values of one attention layer, in buffers that grow ahead of need."""

    def __init__(self, keys_BGSP: Tensor, values_BGSP: Tensor) -> None:
        self.buffers = (keys_BGSP, values_BGSP)
        self.length = keys_BGSP.shape[2]

    def fork(self, room: int) -> "AttentionState":
        """Return a state that goes on from here, with room for so many tokens, while this one stays.

        Both share the buffers: what the fork writes lies beyond this one's length.
        """
        self.reserve(room)
        other = AttentionState(*self.buffers)
        other.length = self.length
        return other

    def reserve(self, room: int) -> None:
        """Make room for so many more tokens."""
        needed, capacity = self.length + room, self.buffers[0].shape[2]
        if needed > capacity:
            size = max(needed, _FIRST_CAPACITY, capacity * 3 // 2)
            # One assignment: an interrupt leaves both buffers or neither.
            self.buffers = (self._grown(self.buffers[0], size), self._grown(self.buffers[1], size))

    def append(self, keys_BGTP: Tensor, values_BGTP: Tensor) -> tuple[Tensor, Tensor]:
        """Write behind what is there and return all keys and values."""
        self.reserve(keys_BGTP.shape[2])
        begin, end = self.length, self.length + keys_BGTP.shape[2]
        keys, values = (buffer[:, :, :end] for buffer in self.buffers)
        keys[:, :, begin:] = keys_BGTP.detach()
        values[:, :, begin:] = values_BGTP.detach()
        self.length = end
        if torch.is_grad_enabled():  # of the queries alone, maybe
            # The buffers hold no gradient, and the next forward writes into them before this one's backward.
            return (
                torch.cat([keys[:, :, :begin].to(keys_BGTP.dtype), keys_BGTP], 2),
                torch.cat([values[:, :, :begin].to(values_BGTP.dtype), values_BGTP], 2),
            )
        return keys, values

    def count_one(self) -> None:
        """Take the position behind the last one, which a kernel has written, for read."""
        self.length += 1

    def fits(self, dtype: torch.dtype) -> bool:
        """Say whether the CPU's kernels can read it beside weights of ``dtype``."""
        return all(buffer.dtype == dtype for buffer in self.buffers) and _readable(*self.buffers)

    def _grown(self, buffer: Tensor, capacity: int) -> Tensor:
        batch, heads, _, size = buffer.shape
        grown = buffer.new_empty(batch, heads, capacity, size)
        grown[:, :, : self.length] = buffer[:, :, : self.length]
        return grown

    def tensors(self) -> dict[str, Tensor]:
        """Name the tensors that make up the state, as the constructor takes them."""
        keys, values = (buffer[:, :, : self.length] for buffer in self.buffers)
        return {"keys": keys, "values": values}


LayerState = MambaState | AttentionState


class JambaState:
    """Everything needed to go on reading where a forward stopped; made by ``model.new_state``, advanced in
    place.

    A forward that fails (or is interrupted) leaves the state as it was: it reads into a fork, which the state
    becomes at the end. Copies, files and splits are exact.
    """

    def __init__(self, model: "JambaForCausalLM", layers: list[LayerState], batch_size: int) -> None:
        self._model, self.layers, self.batch_size = model, layers, batch_size
        self.length = 0

    def fork(self, room: int) -> list[LayerState]:
        """Return layers that can read so many more tokens while this state stays as it is."""
        return [layer.fork(room) for layer in self.layers]

    def adopt(self, layers: list[LayerState], length: int) -> None:
        """Become these layers, which have read ``length`` tokens."""
        self.__dict__.update(layers=layers, length=length)  # one step: an interrupt finds both or neither

    def prepare(self, model: "JambaForCausalLM", batch_size: int) -> None:
        """Refuse another model's forward or batch; leave inference mode where the forward has left it."""
        if self._model is not model:
            raise StateError(
                "the state belongs to another model object; use model.new_state, or save it and load it there"
            )
        if self.batch_size != batch_size:
            raise StateError(
                f"the state has {self.batch_size} rows and input_ids {batch_size}; "
                f"use model.new_state({batch_size})"
            )
        if not torch.is_inference_mode_enabled():
            self.layers = [
                _copy(layer) if any(tensor.is_inference() for tensor in layer.tensors().values()) else layer
                for layer in self.layers
            ]

    def __deepcopy__(self, memo: object) -> Self:
        """Copy as :meth:`clone` does: the tensors, not the model."""
        return self.clone()

    def clone(self) -> Self:
        """Return an independent copy, its buffers cut to what is used."""
        other = type(self)(self._model, [_copy(layer) for layer in self.layers], self.batch_size)
        other.length = self.length
        return other

    def nbytes(self) -> int:
        """Bytes of the tensors that make up the state."""
        return sum(tensor.numel() * tensor.element_size() for _, tensor in self._named_tensors())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state as safetensors, whole or not at all, readable by whom the umask lets read."""
        target = Path(path)
        metadata = {
            "format": FORMAT,
            "model": self._model.fingerprint(),
            "length": str(self.length),
            "batch_size": str(self.batch_size),
        }
        tensors = {name: tensor.contiguous() for name, tensor in self._named_tensors()}
        with replacing(target) as draft, storing():
            save_file(tensors, draft, metadata=metadata)

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Become the state saved at ``path``; refuse one of another model, batch size or format. Returns
        itself."""
        try:
            with safe_open(path, framework="pt") as saved:
                self._check(saved.metadata() or {}, path)
                length = int(saved.metadata()["length"])
                layers = [
                    type(layer)(*(saved.get_tensor(f"{index}.{name}").to(old) for name, old in mine.items()))
                    for index, layer in enumerate(self.layers)
                    for mine in (layer.tensors(),)
                ]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise StateError(f"{path}: no readable state ({error}); read the prompt again instead") from error
        self.adopt(layers, length)
        return self

    def _check(self, metadata: dict[str, str], path: str | os.PathLike[str]) -> None:
        expected = {"format": FORMAT, "model": self._model.fingerprint(), "batch_size": str(self.batch_size)}
        for key, wanted in expected.items():
            if metadata.get(key) != wanted:
                raise StateError(
                    f"{path}: its {key} is {metadata.get(key)!r}, this model's state needs {wanted!r}; "
                    "load it with the model that wrote it, or read the prompt again"
                )

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for index, layer in enumerate(self.layers):
            for name, tensor in layer.tensors().items():
                yield f"{index}.{name}", tensor


def _readable(*tensors: Tensor) -> bool:
    return all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors)


def _copy(layer: LayerState) -> LayerState:
    return type(layer)(
        *(tensor.clone(memory_format=torch.contiguous_format) for tensor in layer.tensors().values())
    )
