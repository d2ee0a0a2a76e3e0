"""Our Jamba against transformers', against itself in pieces, and against input it cannot use."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import JambaForCausalLM as TransformersJamba

from spellbound.errors import ModelError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.documents import Documents
from tests.jamba.models import SHAPES, VOCABULARY, config, ours, relative_error, tokens, twins

every_shape = pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
KERNELS = ["reference", "torch", "cpp"]


@every_shape
def test_logits_equal_transformers(changes: dict[str, Any]) -> None:
    mine, theirs = twins(**changes)
    input_ids = tokens(2, 37)
    with torch.no_grad():
        assert relative_error(mine(input_ids).logits, theirs(input_ids).logits) < 1e-5


@every_shape
def test_gradients_equal_transformers(changes: dict[str, Any]) -> None:
    mine, theirs = (model.double() for model in twins(**changes))
    input_ids = tokens(2, 19)
    for model in (mine, theirs):
        model(input_ids, labels=input_ids).loss.backward()
    expected = {name: weight.grad for name, weight in theirs.named_parameters()}
    # transformers computes parts of the mixer in float32 even for a float64 model.
    for name, weight in mine.named_parameters():
        assert weight.grad is not None, name
        scale = expected[name].abs().max().clamp(min=1e-4)
        assert (weight.grad - expected[name]).abs().max() / scale < 1e-4, name


@pytest.mark.parametrize("kernels", KERNELS)
def test_all_kernels_give_the_same_logits(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = twins()
    monkeypatch.setenv("SPELLBOUND_KERNELS", kernels)
    input_ids = tokens(2, 90)
    with torch.no_grad():
        assert relative_error(mine(input_ids).logits, theirs(input_ids).logits) < 1e-5


def test_last_logits_only() -> None:
    model, input_ids = ours(), tokens(2, 11)
    with torch.no_grad():
        assert torch.allclose(
            model(input_ids, logits_to_keep=3).logits, model(input_ids).logits[:, -3:], atol=1e-5
        )


def test_loss_is_the_mean_over_labelled_tokens() -> None:
    model, input_ids = ours(), tokens(2, 11)
    labels = input_ids.masked_fill(torch.arange(11) < 5, -100)
    with torch.no_grad():
        out = model(input_ids, labels=labels)
        chosen = out.logits[:, 4:-1].log_softmax(-1).gather(-1, input_ids[:, 5:, None])
    assert torch.allclose(out.loss, -chosen.mean())


def test_without_any_label_the_loss_is_zero_and_changes_nothing() -> None:
    model, input_ids = ours(), tokens(2, 11)
    for ids, labels in ((input_ids, torch.full_like(input_ids, -100)), (input_ids[:, :1],) * 2):
        model.zero_grad()
        loss = model(ids, labels=labels).loss
        loss.backward()
        assert loss.item() == 0.0
        assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())


def test_more_logits_than_there_are_means_all() -> None:
    assert ours()(tokens(1, 5), logits_to_keep=9).logits.shape == (1, 5, VOCABULARY)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype_trains_and_continues(dtype: torch.dtype) -> None:
    model, input_ids = ours().to(dtype), tokens(2, 20)
    whole = model(input_ids, labels=input_ids)
    whole.loss.backward()
    assert whole.logits.dtype == dtype
    assert all(w.grad is not None and bool(w.grad.isfinite().all()) for w in model.parameters())
    with torch.no_grad():
        state = model.new_state(2)
        pieces = torch.cat([model(part, state=state).logits for part in input_ids.split([7, 13], 1)], 1)
    assert relative_error(pieces.double(), whole.logits.detach().double()) < 8 * torch.finfo(dtype).eps + 1e-9


class TestPacking:
    """Documents in one row equal documents on their own."""

    lengths = (1, 2, 3, 17, 64, 5, 66)

    def packed(self, seed: int = 3) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        documents = [tokens(1, length, seed=seed + i) for i, length in enumerate(self.lengths)]
        ids = torch.cat([torch.full((1, length), i) for i, length in enumerate(self.lengths)], 1)
        return documents, torch.cat(documents, 1), ids

    @pytest.mark.parametrize("kernels", KERNELS)
    def test_logits(self, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPELLBOUND_KERNELS", kernels)
        model = ours()
        documents, row, ids = self.packed()
        with torch.no_grad():
            apart = torch.cat([model(document).logits for document in documents], 1)
            assert relative_error(model(row, document_ids=ids).logits, apart) < 1e-5

    def test_ends_count_through_all_rows(self) -> None:
        ids = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 2, 0]])
        ends, longest = Documents.of(ids, ids).ends  # type: ignore[union-attr]
        assert ends.tolist() == [0, 2, 5, 8, 9, 10]  # what begins a row is a new document
        assert (ends.dtype, longest) == (torch.int32, 3)

    def test_loss_and_gradients(self) -> None:
        model = ours().double()
        documents, row, ids = self.packed()
        model(row, labels=row, document_ids=ids).loss.backward()
        together = {
            name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
        }
        model.zero_grad()
        targets = sum(len(document[0]) - 1 for document in documents)
        for document in documents[1:]:  # the first has one token, so nothing to predict
            loss = model(document, labels=document).loss * (document.shape[1] - 1) / targets
            loss.backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None
            assert torch.allclose(together[name], weight.grad, rtol=1e-9, atol=1e-12), name

    def test_rows_may_be_cut_differently(self) -> None:
        model = ours()
        rows = tokens(2, 20)
        ids = torch.stack([torch.arange(20) // 7, torch.arange(20) // 4])
        with torch.no_grad():
            together = model(rows, document_ids=ids).logits
            for row, size in ((0, 7), (1, 4)):
                apart = torch.cat([model(part).logits for part in rows[row : row + 1].split(size, 1)], 1)
                assert relative_error(together[row : row + 1], apart) < 1e-5


def test_a_document_id_may_come_again_be_negative_and_int32() -> None:
    model, row = ours(), tokens(1, 20)
    ids = torch.tensor([[7] * 5 + [-3] * 6 + [7] * 9], dtype=torch.int32)
    with torch.no_grad():
        apart = torch.cat([model(part).logits for part in row.split([5, 6, 9], 1)], 1)
        assert relative_error(model(row, document_ids=ids).logits, apart) < 1e-5


def test_a_pickled_model_is_the_same_model() -> None:
    model, input_ids = ours(), tokens(1, 9)
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 (our own bytes)
    with torch.no_grad():
        assert torch.equal(again(input_ids).logits, model(input_ids).logits)


def test_right_padding_changes_nothing() -> None:
    model, rows = ours(), tokens(2, 30)
    padded = torch.cat([rows, torch.zeros(2, 13, dtype=torch.long)], 1)
    mask = torch.ones_like(padded).masked_fill(torch.arange(43) >= 30, 0)
    with torch.no_grad():
        assert relative_error(model(padded, attention_mask=mask).logits[:, :30], model(rows).logits) < 1e-6
    labels = padded.masked_fill(torch.arange(43) >= 30, -100)
    losses = [model(padded, labels=labels).loss, model(rows, labels=rows).loss]
    gradients = [torch.autograd.grad(loss, list(model.parameters()), allow_unused=True) for loss in losses]
    for padded_gradient, gradient in zip(*gradients, strict=True):
        assert torch.allclose(padded_gradient, gradient, atol=1e-6)


class TestCheckpoints:
    """Weights pass both ways between this class and transformers'."""

    @pytest.mark.filterwarnings("ignore")
    def test_from_transformers_and_back(self, tmp_path: Path) -> None:
        mine, theirs = twins()
        input_ids = tokens(1, 9)
        theirs.save_pretrained(tmp_path / "theirs")
        mine.save_pretrained(tmp_path / "ours")
        with torch.no_grad():
            expected = mine(input_ids).logits
            loaded, report = JambaForCausalLM.from_pretrained(tmp_path / "theirs", output_loading_info=True)
            assert not report["missing_keys"]
            assert torch.equal(loaded(input_ids).logits, expected)
            back = TransformersJamba.from_pretrained(tmp_path / "ours")
            assert relative_error(back(input_ids).logits, expected) < 1e-5

    def test_per_expert_names_of_the_hub(self, tmp_path: Path) -> None:
        mine = ours()
        weights = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
        for name in [name for name in weights if ".experts." in name]:
            stem, kind = name.rsplit(".", 1)
            for expert, tensor in enumerate(weights.pop(name)):
                parts = tensor.chunk(2) if kind == "gate_up_proj" else [tensor]
                kinds = ["gate_proj", "up_proj"] if kind == "gate_up_proj" else ["down_proj"]
                for part, label in zip(parts, kinds, strict=True):
                    weights[f"{stem}.{expert}.{label}.weight"] = part.contiguous()
        assert any(name.endswith("experts.3.down_proj.weight") for name in weights)
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        mine.config.save_pretrained(tmp_path)
        loaded, report = JambaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        with torch.no_grad():
            assert torch.equal(loaded(tokens(1, 9)).logits, mine(tokens(1, 9)).logits)

    def test_tied_weights_are_saved_once(self, tmp_path: Path) -> None:
        model = ours(tie_word_embeddings=True)
        model.save_pretrained(tmp_path)
        assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
        loaded = JambaForCausalLM.from_pretrained(tmp_path)
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
        assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "jamba"

    def test_dtype(self, tmp_path: Path) -> None:
        mine = ours()
        mine.save_pretrained(tmp_path)
        half = JambaForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
        with torch.no_grad():
            assert half(tokens(1, 9)).logits.dtype == torch.bfloat16
            assert relative_error(half(tokens(1, 9)).logits.float(), mine(tokens(1, 9)).logits) < 0.1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", ["CAUSAL_LM", None])
def test_a_lora_adapter_passes_to_transformers(task: str | None, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    mine, theirs = twins()
    targets = [
        "in_proj",
        "x_proj",
        "dt_proj",
        "out_proj",
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
    ]
    settings = LoraConfig(r=4, target_modules=targets, task_type=task, init_lora_weights=False)
    adapted = get_peft_model(mine, settings).eval()
    input_ids = tokens(2, 21)
    with torch.no_grad():
        expected = adapted(input_ids=input_ids).logits
        with adapted.disable_adapter():
            assert relative_error(adapted(input_ids=input_ids).logits, expected) > 1e-2
    adapted.save_pretrained(tmp_path)
    reloaded = PeftModel.from_pretrained(theirs, tmp_path).eval()
    with torch.no_grad():
        # transformers multiplies dt_proj's weight by hand unless it believes the model quantised.
        reloaded.config._is_quantized = True
        assert relative_error(reloaded(input_ids=input_ids).logits, expected) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_lora_trains_dt_proj() -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(ours(), LoraConfig(r=4, target_modules=["dt_proj"], init_lora_weights=False))
    adapted(input_ids=tokens(1, 9), labels=tokens(1, 9)).loss.backward()
    gradients = [weight.grad for name, weight in adapted.named_parameters() if "lora_" in name]
    assert gradients
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_gradient_checkpointing_changes_nothing() -> None:
    model, input_ids = ours().train(), tokens(2, 15)
    documents = (torch.arange(15) // 6).expand(2, -1)
    model(input_ids, labels=input_ids, document_ids=documents).loss.backward()
    plain = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": False})
    model(input_ids, labels=input_ids, document_ids=documents).loss.backward()
    again = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, again, strict=True))


BAD_INPUT: dict[str, tuple[dict[str, Any], str]] = {
    "flat": ({"input_ids": tokens(5)}, r"shape \(5,\).*\(batch, time\)"),
    "empty": ({"input_ids": tokens(1, 0)}, "at least one token"),
    "no rows": ({"input_ids": tokens(0, 4)}, "at least one token"),
    "floats": ({"input_ids": torch.rand(1, 4)}, "dtype torch.float32"),
    "too large an id": ({"input_ids": torch.tensor([[5, VOCABULARY]])}, f"token id {VOCABULARY} is outside"),
    "negative id": ({"input_ids": torch.tensor([[5, -1]])}, "token id -1 is outside the vocabulary of 97"),
    "labels of another shape": (
        {"input_ids": tokens(1, 4), "labels": tokens(1, 3)},
        r"labels has shape \(1, 3\)",
    ),
    "documents of another shape": (
        {"input_ids": tokens(1, 4), "document_ids": tokens(1, 3)},
        r"document_ids has shape \(1, 3\)",
    ),
    "left padding": (
        {"input_ids": tokens(1, 3), "attention_mask": torch.tensor([[0, 1, 1]])},
        "pad on the right",
    ),
    "a mask of pairs": (
        {"input_ids": tokens(1, 3), "attention_mask": torch.ones(1, 1, 3, 3)},
        "pad on the right",
    ),
    "bools": ({"input_ids": torch.ones(1, 4, dtype=torch.bool)}, "dtype torch.bool"),
    "labels of another dtype": (
        {"input_ids": tokens(1, 4), "labels": torch.rand(1, 4)},
        "labels has .* dtype torch.float32",
    ),
    "a label outside": (
        {"input_ids": tokens(1, 4), "labels": torch.tensor([[1, 2, -5, -100]])},
        "label -5 is neither -100 nor in the vocabulary of 97",
    ),
    "logits before the end": ({"input_ids": tokens(1, 4), "logits_to_keep": -1}, "logits_to_keep is -1"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_one_clear_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ours()(**arguments)


def test_another_activation_is_refused() -> None:
    with pytest.raises(ModelError, match="hidden_act is 'gelu'; the kernels know 'silu' alone"):
        ours(hidden_act="gelu")


def test_arguments_it_does_not_have_are_refused() -> None:
    with pytest.raises(TypeError, match="does not take past_key_values"):
        ours()(tokens(1, 3), past_key_values=object())
    with pytest.raises(TypeError, match="does not take position_ids"):
        ours()(tokens(1, 3), position_ids=tokens(1, 3))
    with pytest.raises(ModelError, match=r"use spellbound\.engine"):
        ours().prepare_inputs_for_generation()


def test_fresh_layers_forget_as_mamba_starts_them() -> None:
    bias = JambaForCausalLM(config(hidden_size=256)).state_dict()["model.layers.0.mamba.dt_proj.bias"]
    steps = torch.nn.functional.softplus(bias)
    assert 1e-3 * 0.99 <= float(steps.min()) < 3e-3
    assert 3e-2 < float(steps.max()) <= 1e-1 * 1.01
