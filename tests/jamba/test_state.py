"""A state continued with any split of the tokens equals the whole, and passes through copies and files."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from spellbound.errors import InputError, ModelError, StateError
from spellbound.jamba import JambaForCausalLM, JambaState
from tests.jamba.models import SHAPES, ours, relative_error, tokens

MODEL = ours()


def read(
    model: JambaForCausalLM, state: JambaState, input_ids: torch.Tensor, sizes: list[int]
) -> torch.Tensor:
    """Logits of all positions, read in pieces of these sizes."""
    with torch.no_grad():
        return torch.cat([model(part, state=state).logits for part in input_ids.split(sizes, 1)], 1)


def whole(model: JambaForCausalLM, input_ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids).logits


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_token_by_token_equals_the_whole(changes: dict[str, Any]) -> None:
    model, input_ids = ours(**changes), tokens(2, 20)
    state = model.new_state(2)
    assert relative_error(read(model, state, input_ids, [1] * 20), whole(model, input_ids)) < 1e-5
    assert state.length == 20


@pytest.mark.parametrize("first", range(1, 9))
@pytest.mark.parametrize("second", range(1, 6))
def test_chunks_that_straddle_the_convolution_window(first: int, second: int) -> None:
    input_ids = tokens(1, 20)
    pieces = [first, second, 20 - first - second]
    assert relative_error(read(MODEL, MODEL.new_state(1), input_ids, pieces), whole(MODEL, input_ids)) < 1e-5


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 70), min_size=1, max_size=6), batch=st.integers(1, 3))
def test_any_split_equals_the_whole(sizes: list[int], batch: int) -> None:
    input_ids = tokens(batch, sum(sizes))
    assert (
        relative_error(read(MODEL, MODEL.new_state(batch), input_ids, sizes), whole(MODEL, input_ids)) < 1e-5
    )


@pytest.mark.parametrize("kernels", ["reference", "torch", "cpp"])
def test_all_kernels_continue(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", kernels)
    input_ids = tokens(2, 150)
    pieces = [1, 63, 1, 64, 2, 19]
    assert relative_error(read(MODEL, MODEL.new_state(2), input_ids, pieces), whole(MODEL, input_ids)) < 1e-5


def test_key_value_buffers_grow_past_their_first_size() -> None:
    input_ids = tokens(1, 700)
    pieces = [200, 100, 1, 399]
    assert relative_error(read(MODEL, MODEL.new_state(1), input_ids, pieces), whole(MODEL, input_ids)) < 1e-5


def test_bfloat16_state_of_a_float32_model() -> None:
    input_ids = tokens(1, 40)
    state = MODEL.new_state(1, torch.bfloat16)
    assert relative_error(read(MODEL, state, input_ids, [20, 20]), whole(MODEL, input_ids)) < 0.05


def test_gradients_of_a_forward_with_a_state_equal_those_without() -> None:
    model, input_ids = ours(), tokens(2, 12)
    plain = torch.autograd.grad(model(input_ids, labels=input_ids).loss, list(model.parameters()))
    state = model.new_state(2)
    loss = model(input_ids, labels=input_ids, state=state).loss
    model(input_ids, state=state)  # must not spoil what the first forward remembers for its backward
    for found, wanted in zip(torch.autograd.grad(loss, list(model.parameters())), plain, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)


def test_queries_alone_may_be_trained_from_a_state() -> None:
    # One layer: nothing that is remembered depends on the queries.
    only = {"attn_layer_period": 1, "attn_layer_offset": 0, "num_hidden_layers": 1}
    model, ids = ours(**only).requires_grad_(False), tokens(1, 10)
    layer: Any = model.model.layers[0]
    layer.self_attn.q_proj.requires_grad_(True)
    state = model.new_state(1)
    losses = [model(part, state=state).logits.sum() for part in ids.split(5, 1)]
    torch.stack(losses).sum().backward()
    stepwise = layer.self_attn.q_proj.weight.grad.clone()
    model.zero_grad()
    model(ids).logits.sum().backward()
    assert relative_error(stepwise, layer.self_attn.q_proj.weight.grad) < 1e-4


def test_a_state_may_leave_inference_mode() -> None:
    input_ids = tokens(1, 20)
    state = MODEL.new_state(1)
    with torch.inference_mode():
        MODEL(input_ids[:, :7], state=state)
    rest = MODEL(input_ids[:, 7:], state=state, labels=input_ids[:, 7:])
    rest.loss.backward()
    assert relative_error(rest.logits.detach(), whole(MODEL, input_ids)[:, 7:]) < 1e-5
    MODEL.zero_grad()


def test_a_state_saved_in_inference_mode_or_of_another_dtype_loads(tmp_path: Path) -> None:
    input_ids = tokens(1, 20)
    with torch.inference_mode():
        state = MODEL.new_state(1, torch.bfloat16)
        MODEL(input_ids[:, :7], state=state)
        state.save(tmp_path / "state")
    restored = MODEL.new_state(1).load(tmp_path / "state")
    assert (
        relative_error(read(MODEL, restored, input_ids[:, 7:], [13]), whole(MODEL, input_ids)[:, 7:]) < 0.05
    )


class TestCopies:
    """Copies and files are independent and exact."""

    def test_a_clone_goes_its_own_way(self) -> None:
        input_ids, other = tokens(1, 30), tokens(1, 12, seed=5)
        state = MODEL.new_state(1)
        read(MODEL, state, input_ids[:, :20], [20])
        fork = state.clone()
        read(MODEL, fork, other, [5, 7])
        rest = read(MODEL, state, input_ids[:, 20:], [10])
        assert relative_error(rest, whole(MODEL, input_ids)[:, 20:]) < 1e-5
        assert (state.length, fork.length) == (30, 32)

    def test_a_file_gives_the_same_bits(self, tmp_path: Path) -> None:
        input_ids = tokens(2, 30)
        state = MODEL.new_state(2)
        read(MODEL, state, input_ids[:, :20], [13, 7])
        state.save(tmp_path / "state.safetensors")
        restored = MODEL.new_state(2).load(tmp_path / "state.safetensors")
        assert restored.length == 20
        expected, actual = (read(MODEL, s, input_ids[:, 20:], [10]) for s in (state.clone(), restored))
        assert torch.equal(actual, expected)
        assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]

    def test_a_file_has_the_rights_of_any_new_file_or_of_the_one_it_replaces(self, tmp_path: Path) -> None:
        saved, plain = tmp_path / "state", tmp_path / "plain"
        MODEL.new_state(1).save(saved)
        plain.touch()
        assert saved.stat().st_mode == plain.stat().st_mode
        saved.chmod(0o640)
        MODEL.new_state(1).save(saved)
        assert saved.stat().st_mode & 0o777 == 0o640

    def test_a_deep_copy_copies_no_model(self) -> None:
        state = MODEL.new_state(1)
        read(MODEL, state, tokens(1, 9), [9])
        fork = copy.deepcopy({"turn": state})["turn"]
        assert torch.equal(read(MODEL, fork, tokens(1, 5), [5]), read(MODEL, state, tokens(1, 5), [5]))

    def test_an_empty_state_can_be_saved(self, tmp_path: Path) -> None:
        MODEL.new_state(1).save(tmp_path / "empty")
        state = MODEL.new_state(1).load(tmp_path / "empty")
        assert relative_error(read(MODEL, state, tokens(1, 9), [9]), whole(MODEL, tokens(1, 9))) < 1e-5

    def test_a_failed_save_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "state"
        state = MODEL.new_state(1)
        state.save(path)
        before = path.read_bytes()

        def full_disk(tensors: object, target: str, metadata: object) -> None:
            Path(target).write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("spellbound.jamba.state.save_file", full_disk)
        with pytest.raises(InputError, match="state: cannot be written: no space left on device; make room"):
            state.save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_loaded_state_grows_without_touching_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        state = MODEL.new_state(1)
        read(MODEL, state, tokens(1, 20), [20])
        state.save(path)
        before = path.read_bytes()
        read(MODEL, MODEL.new_state(1).load(path), tokens(1, 5), [5])
        assert path.read_bytes() == before


class TestRefusals:
    """States that do not fit say so."""

    def test_another_model(self, tmp_path: Path) -> None:
        MODEL.new_state(1).save(tmp_path / "state")
        with pytest.raises(StateError, match=r"its model is .* load it with the model that wrote it"):
            ours(seed=1).new_state(1).load(tmp_path / "state")

    def test_a_model_of_another_shape(self, tmp_path: Path) -> None:
        MODEL.new_state(1).save(tmp_path / "state")
        with pytest.raises(StateError, match="its model is"):
            ours(num_hidden_layers=3).new_state(1).load(tmp_path / "state")

    def test_another_model_in_memory(self) -> None:
        for other in (ours(), ours(num_hidden_layers=3), ours(num_hidden_layers=6)):
            with pytest.raises(StateError, match="belongs to another model object"):
                MODEL(tokens(1, 4), state=other.new_state(1))

    @pytest.mark.filterwarnings("ignore")
    def test_another_adapter(self, tmp_path: Path) -> None:
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(r=2, target_modules=["q_proj", "in_proj"], init_lora_weights=False)
        adapted: Any = get_peft_model(ours(), settings)
        adapted.add_adapter("other", settings)
        state = adapted.new_state(1)
        read(adapted, state, tokens(1, 5), [5])
        state.save(tmp_path / "state")
        assert adapted.new_state(1).load(tmp_path / "state").length == 5
        with adapted.disable_adapter(), pytest.raises(StateError, match="its model is"):
            adapted.new_state(1).load(tmp_path / "state")
        adapted.set_adapter("other")
        with pytest.raises(StateError, match="its model is"):
            adapted.new_state(1).load(tmp_path / "state")

    def test_a_file_that_lacks_a_tensor_leaves_the_state_as_it_was(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        state, input_ids = MODEL.new_state(1), tokens(1, 12)
        read(MODEL, state, input_ids[:, :7], [7])
        MODEL.new_state(1).save(path)
        with safe_open(path, framework="pt") as saved:
            metadata = saved.metadata()
        tensors = load_file(path)
        del tensors["3.ssm"]
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(StateError, match="no readable state"):
            state.load(path)
        assert (
            relative_error(read(MODEL, state, input_ids[:, 7:], [5]), whole(MODEL, input_ids)[:, 7:]) < 1e-5
        )

    def test_a_state_under_gradient_checkpointing(self) -> None:
        model = ours().train()
        model.activation_checkpointing_enable({"use_reentrant": False})
        with pytest.raises(ModelError, match="gradient checkpointing reads the tokens twice"):
            model(tokens(1, 4), state=model.new_state(1))

    def test_another_batch_size(self, tmp_path: Path) -> None:
        MODEL.new_state(2).save(tmp_path / "state")
        with pytest.raises(StateError, match="its batch_size is '2', this model's state needs '1'"):
            MODEL.new_state(1).load(tmp_path / "state")
        with pytest.raises(
            StateError, match=r"the state has 2 rows and input_ids 3; use model.new_state\(3\)"
        ):
            MODEL(tokens(3, 4), state=MODEL.new_state(2))

    def test_another_format(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        MODEL.new_state(1).save(path)
        save_file(load_file(path), path, metadata={"format": "spellbound-jamba-state/0"})
        with pytest.raises(StateError, match="its format is 'spellbound-jamba-state/0'"):
            MODEL.new_state(1).load(path)

    @pytest.mark.parametrize("content", [b"", b"not a state", b"\xff" * 100])
    def test_a_damaged_file(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "state"
        path.write_bytes(content)
        with pytest.raises(StateError, match="no readable state"):
            MODEL.new_state(1).load(path)

    def test_half_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        state = MODEL.new_state(1)
        read(MODEL, state, tokens(1, 20), [20])
        state.save(path)
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(StateError, match="no readable state"):
            MODEL.new_state(1).load(path)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(StateError, match="no readable state"):
            MODEL.new_state(1).load(tmp_path / "nowhere")

    def test_a_refused_file_leaves_the_state_as_it_was(self, tmp_path: Path) -> None:
        MODEL.new_state(2).save(tmp_path / "state")
        state, input_ids = MODEL.new_state(1), tokens(1, 12)
        read(MODEL, state, input_ids[:, :7], [7])
        with pytest.raises(StateError):
            state.load(tmp_path / "state")
        assert (
            relative_error(read(MODEL, state, input_ids[:, 7:], [5]), whole(MODEL, input_ids)[:, 7:]) < 1e-5
        )

    def test_documents_with_a_state(self) -> None:
        with pytest.raises(ModelError, match="document_ids and state were both given"):
            MODEL(tokens(1, 4), state=MODEL.new_state(1), document_ids=tokens(1, 4))

    @pytest.mark.parametrize("dtype", [torch.int8, "float32"])
    def test_a_dtype_that_is_none(self, dtype: Any) -> None:
        with pytest.raises(ModelError, match="is not a floating torch dtype"):
            MODEL.new_state(1, dtype)

    def test_no_rows(self) -> None:
        with pytest.raises(ModelError, match="batch_size is 0"):
            MODEL.new_state(0)


def test_a_failed_forward_leaves_the_state_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    input_ids = tokens(1, 30)
    state = MODEL.new_state(1)
    read(MODEL, state, input_ids[:, :10], [10])

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MODEL.model.layers[-1], "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            MODEL(input_ids[:, 10:20], state=state)
    assert state.length == 10
    rest = read(MODEL, state, input_ids[:, 10:], [20])
    assert relative_error(rest, whole(MODEL, input_ids)[:, 10:]) < 1e-5
