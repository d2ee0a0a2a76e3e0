"""Our loss against the model's own and against one whole matrix of logits."""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.linear import Linear
from spellbound.train.adapters import attach
from spellbound.train.batches import NO_TARGET, Batch, collate
from spellbound.train.loss import Learner, weighted_nats
from spellbound.train.recipe import AdapterSettings
from tests.jamba.models import VOCABULARY, ours, tokens
from tests.train.test_rows import order_of, tokens_of


class Products(TorchDispatchMode):
    """Notes the shapes of all products."""

    def __init__(self, shapes: list[torch.Size]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes = shapes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.mm.default:
            self.shapes.append(made.shape)
        return made


def batch_of(*, packed: bool) -> Batch:
    made = tokens_of([20, 9, 14, 7, 3, 30, 11, 2])
    made.ids[:] = made.ids % (VOCABULARY - 3) + 3
    _, rows = order_of(made, "packed" if packed else "padded", batch=8).at(0)
    return collate(made, rows, pad_id=0, packed=packed)


def gradients(model: JambaForCausalLM, loss: torch.Tensor) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [torch.zeros(()) if each is None else each for each in found]


def ask(learner: Learner, batch: Batch) -> torch.Tensor:
    nats, balance = learner(
        batch.input_ids_BT, batch.documents_BT, batch.targets_BT, batch.weights_BT, batch.lengths_B
    )
    assert balance.item() == 0.0  # nobody asked
    return nats  # type: ignore[no-any-return]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("head_tokens", [0, 1, 7])
@pytest.mark.parametrize("tied", [False, True])
def test_weights_and_parts_change_nothing_but_the_memory(packed: bool, head_tokens: int, tied: bool) -> None:
    model, batch = ours(tie_word_embeddings=tied), batch_of(packed=packed)
    loss = ask(Learner(model, head_tokens=head_tokens), batch)
    logits = model(batch.input_ids_BT, document_ids=batch.documents_BT).logits
    nats = cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten(), reduction="none")
    expected = (nats * batch.weights_BT.flatten()).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for found, wanted in zip(gradients(model, loss), gradients(model, expected), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_packed_samples_have_the_loss_and_the_gradients_of_single_ones() -> None:
    model = ours()
    packed = ask(Learner(model), batch_of(packed=True))
    alone = ask(Learner(model), batch_of(packed=False))
    assert packed.item() == pytest.approx(alone.item(), rel=1e-5)
    for found, wanted in zip(gradients(model, packed), gradients(model, alone), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_without_weights_it_is_the_models_own_loss() -> None:
    model, ids = ours(), tokens(2, 24)
    targets = torch.cat([ids[:, 1:], torch.full((2, 1), NO_TARGET)], 1)
    weights, lengths = torch.ones_like(ids, dtype=torch.float32), torch.tensor([24, 24])
    batch = Batch(ids, None, targets, weights, lengths, ids.numel())
    mean = ask(Learner(model), batch) / (targets >= 0).sum()
    assert mean.item() == pytest.approx(model(ids, labels=ids).loss.item(), rel=1e-6)


def test_a_batch_without_targets_has_no_loss_and_no_gradient() -> None:
    model = ours()
    loss = ask(Learner(model), batch_of(packed=True).muted())
    assert loss.item() == 0.0
    assert not any(gradient.any() for gradient in gradients(model, loss))


def test_gradient_checkpointing_changes_nothing() -> None:
    model, batch = ours().train(), batch_of(packed=True)
    plain = gradients(model, ask(Learner(model), batch))
    model.activation_checkpointing_enable()
    again = gradients(model, ask(Learner(model), batch))
    for found, wanted in zip(again, plain, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adapted", [False, True])
def test_no_more_logits_exist_than_are_asked_for(adapted: bool) -> None:
    model, batch = ours(), batch_of(packed=True)
    if adapted:
        attach(model, AdapterSettings(targets=("lm_head",)), 0)
    most: list[int] = []
    model.lm_head.register_forward_hook(lambda module, given, made: most.append(len(made)))
    ask(Learner(model, head_tokens=5), batch).backward()
    wanted = int((batch.targets_BT >= 0).sum())
    assert max(most) == 5
    assert sum(most) == (2 if adapted else 1) * wanted  # an adapter's gradient needs the logits anew


@pytest.mark.parametrize("head_tokens", [0, 5])
def test_an_adapter_on_the_head_learns_as_from_the_whole_matrix(head_tokens: int) -> None:
    model, batch = ours(), batch_of(packed=True)
    attach(model, AdapterSettings(targets=("lm_head",)), 0)
    adapter = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in adapter:
        torch.nn.init.normal_(weight, std=0.1)
    found = torch.autograd.grad(ask(Learner(model, head_tokens=head_tokens), batch), adapter)
    logits = model(batch.input_ids_BT, document_ids=batch.documents_BT).logits.flatten(0, 1)
    nats = cross_entropy(logits, batch.targets_BT.flatten(), reduction="none")
    wanted = torch.autograd.grad((nats * batch.weights_BT.flatten()).sum(), adapter)
    assert all(torch.allclose(*pair, rtol=1e-3, atol=1e-4) for pair in zip(found, wanted, strict=True))


def test_halves_are_as_near_to_float32_as_through_torchs_own_loss() -> None:
    hidden_XH = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    targets_X, weights_X = torch.arange(40) % 50, torch.linspace(0.1, 2, 40)
    head = Linear(16, 50, bias=False)

    def found(kind: torch.dtype) -> list[torch.Tensor]:
        hidden = hidden_XH.to(kind).requires_grad_()
        nats = weighted_nats(head.to(kind), hidden, targets_X, weights_X, 16) / 37  # a scale with many digits
        assert nats.dtype == torch.float32
        return [nats, *torch.autograd.grad(nats, [hidden, head.weight])]

    whole, half = found(torch.float32), found(torch.bfloat16)
    assert [each.dtype for each in half[1:]] == [torch.bfloat16] * 2
    for near, exact in zip(half, whole, strict=True):
        assert (near.float() - exact).norm() < 2**-7 * exact.norm()


def test_a_measurement_makes_no_gradients() -> None:
    model, batch = ours(), batch_of(packed=True)
    shapes: list[torch.Size] = []
    with torch.no_grad(), Products(shapes):
        loss = ask(Learner(model, head_tokens=5), batch)
    assert not loss.requires_grad
    assert shapes
    assert model.lm_head.weight.shape not in shapes
    assert loss.item() == pytest.approx(ask(Learner(model), batch).item(), rel=1e-6)
