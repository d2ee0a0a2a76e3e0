"""Long rows are read in chunks: the same logits, the state safe until the end, and little memory."""

import subprocess
import sys
from typing import Any, cast

import pytest
import torch
from accelerate import cpu_offload

from spellbound.jamba import JambaForCausalLM, JambaState
from spellbound.jamba import model as module
from spellbound.jamba.state import AttentionState
from tests.jamba.models import SHAPES, ours, relative_error, tokens

MODEL = ours()


def set_chunk(patch: pytest.MonkeyPatch, size: int) -> None:
    patch.setattr(module, "_CHUNK_ON_CPU", size)


def whole(model: JambaForCausalLM, input_ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
    """Logits read at once: the rows of these tests are shorter than the chunks of real ones."""
    with torch.no_grad():
        return model(input_ids, **arguments).logits


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens went through the layers at a time."""
    sizes: list[int] = []
    plain = module.JambaModel._read

    def noted(self: Any, ids_BT: torch.Tensor, *others: Any) -> torch.Tensor:
        sizes.append(ids_BT.shape[1])
        return plain(self, ids_BT, *others)

    monkeypatch.setattr(module.JambaModel, "_read", noted)
    return sizes


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_of_model(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, input_ids = ours(**changes), tokens(2, 50)
    wanted = whole(model, input_ids)
    set_chunk(monkeypatch, 16)
    assert relative_error(whole(model, input_ids), wanted) < 1e-5


@pytest.mark.parametrize("chunk", [1, 2, 8, 33])
@pytest.mark.parametrize("extra", [-1, 0, 1, 50])
@pytest.mark.parametrize("before", [None, 0, 11])
@pytest.mark.parametrize("keep", [0, 1, 9])
def test_any_chunk(
    chunk: int, extra: int, before: int | None, keep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = max(1, chunk + extra)
    input_ids = tokens(2, (before or 0) + time)
    wanted = whole(MODEL, input_ids)[:, before or 0 :][:, -keep:]
    state = None if before is None else MODEL.new_state(2)
    if state is not None and before:
        whole(MODEL, input_ids[:, :before], state=state)
    set_chunk(monkeypatch, chunk)
    found = whole(MODEL, input_ids[:, before or 0 :], state=state, logits_to_keep=keep)
    assert found.shape == wanted.shape
    assert relative_error(found, wanted) < 1e-5
    if state is not None:
        assert state.length == input_ids.shape[1]
        following = tokens(2, 3, seed=5)
        everything = torch.cat([input_ids, following], 1)
        monkeypatch.undo()
        rest = whole(MODEL, following, state=state)
        assert relative_error(rest, whole(MODEL, everything)[:, -3:]) < 1e-5


def test_chunks_are_of_about_one_size(reads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    set_chunk(monkeypatch, 10)
    for time, sizes in ((9, [9]), (10, [10]), (11, [6, 5]), (31, [8, 8, 8, 7])):
        reads.clear()
        whole(MODEL, tokens(1, time))
        assert reads == sizes


def test_gradients_and_documents_take_the_whole_row(
    reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk(monkeypatch, 10)
    input_ids = tokens(1, 40)
    MODEL(input_ids, labels=input_ids).loss.backward()
    MODEL.zero_grad()
    whole(MODEL, input_ids, document_ids=torch.arange(40)[None] // 13)
    assert reads == [40, 40]


def test_a_loss_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    input_ids = tokens(2, 40)
    with torch.no_grad():
        wanted = MODEL(input_ids, labels=input_ids, logits_to_keep=2)
        set_chunk(monkeypatch, 9)
        found = MODEL(input_ids, labels=input_ids, logits_to_keep=2)
    assert relative_error(found.loss, wanted.loss) < 1e-5
    assert relative_error(found.logits, wanted.logits) < 1e-5


def test_in_inference_mode_and_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    input_ids = tokens(1, 60)
    wanted = whole(MODEL, input_ids)
    set_chunk(monkeypatch, 16)
    state = MODEL.new_state(1)
    with torch.inference_mode():
        MODEL(input_ids[:, :50], state=state)
    assert relative_error(whole(MODEL, input_ids[:, 50:], state=state), wanted[:, 50:]) < 1e-5


def test_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    model, input_ids = ours(num_experts=1).bfloat16(), tokens(2, 60)
    wanted = whole(model, input_ids).float()
    set_chunk(monkeypatch, 16)
    difference = whole(model, input_ids).float() - wanted
    assert difference.abs().mean() / wanted.abs().mean() < 0.05


@pytest.mark.parametrize("before", [0, 20])
@pytest.mark.parametrize("failing", range(4))
def test_an_interrupt_in_any_chunk_leaves_the_state_as_it_was(
    before: int, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    input_ids = tokens(2, before + 40)
    wanted = whole(MODEL, input_ids)[:, before:]
    state = MODEL.new_state(2)
    if before:
        whole(MODEL, input_ids[:, :before], state=state)
    bits = contents(state)
    layer, calls = MODEL.model.layers[-1], iter(range(99))
    plain = layer.forward

    def interrupted(*arguments: Any) -> torch.Tensor:
        if next(calls) == failing:
            raise KeyboardInterrupt
        return plain(*arguments)

    set_chunk(monkeypatch, 10)
    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            whole(MODEL, input_ids[:, before:], state=state)
    assert state.length == before
    assert all(torch.equal(a, b) for a, b in zip(bits, contents(state), strict=True))
    assert relative_error(whole(MODEL, input_ids[:, before:], state=state), wanted) < 1e-5


def contents(state: JambaState) -> list[torch.Tensor]:
    return [tensor for layer in state.clone().layers for tensor in layer.tensors().values()]


def test_key_value_buffers_are_made_once_for_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = AttentionState._grown

    def noted(self: AttentionState, buffer: torch.Tensor, capacity: int) -> torch.Tensor:
        sizes.append(capacity)
        return plain(self, buffer, capacity)

    monkeypatch.setattr(AttentionState, "_grown", noted)
    set_chunk(monkeypatch, 64)
    attention_layers = MODEL.config.layers_block_type.count("attention")
    for state in (None, MODEL.new_state(1)):
        sizes.clear()
        whole(MODEL, tokens(1, 1000), state=state)
        assert sizes == [1000, 1000] * attention_layers


def test_the_last_feed_forward_runs_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    last = cast(Any, MODEL.model.layers[-1]).feed_forward
    plain = last.forward

    def noted(x_BTH: torch.Tensor) -> torch.Tensor:
        rows.append(x_BTH.shape[1])
        return plain(x_BTH)

    monkeypatch.setattr(last, "forward", noted)
    set_chunk(monkeypatch, 10)
    whole(MODEL, tokens(1, 40), logits_to_keep=13)
    assert rows == [3, 10]


PEAK = """
import sys
import torch
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from spellbound.jamba import JambaForCausalLM
from tests.jamba.models import config, tokens

def peak():
    status = Path("/proc/self/status")  # where it is there, as a child's rusage begins with its parent's
    if status.is_file():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

torch.set_num_threads(1)
model = JambaForCausalLM(config(hidden_size=128, intermediate_size=512, num_hidden_layers=2)).eval()
peaks = []
for length in (4096, 16384):
    with torch.inference_mode():
        model(tokens(1, length), logits_to_keep=1)
    peaks.append(peak())
print(peaks[1] - peaks[0])
"""
KEYS_AND_VALUES = 16_384 * 2 * 64 * 4  # one attention layer of 2 heads of 32, float32
SLACK = 24 * 2**20  # the allocator's own; read at once the row would take 110 MB more


def test_memory_of_a_long_row_is_that_of_a_chunk_and_keys_and_values() -> None:
    outcome = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(outcome.stdout) < KEYS_AND_VALUES + SLACK


def test_weights_from_elsewhere_are_read_once(reads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model, input_ids = ours(), tokens(2, 40)
    wanted = whole(model, input_ids)
    cpu_offload(model, execution_device="cpu")
    set_chunk(monkeypatch, 10)
    reads.clear()
    assert relative_error(whole(model, input_ids), wanted) < 1e-5
    assert reads == [40]
