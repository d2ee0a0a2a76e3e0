"""The routers' loss against transformers' own, and against what it should be by hand."""

import pytest
import torch
from transformers.models.jamba.modeling_jamba import load_balancing_loss_func

from spellbound.train.balance import balance_loss, observed
from spellbound.train.loss import Learner
from tests.jamba.models import ours
from tests.train.test_loss import batch_of

ONE_LAYER = {"num_hidden_layers": 2, "expert_layer_period": 2, "expert_layer_offset": 1}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("recompute", [True, False])
def test_of_one_layer_it_is_transformers_own(packed: bool, recompute: bool) -> None:
    model, batch = ours(**ONE_LAYER).train(), batch_of(packed=packed)
    if recompute:
        model.activation_checkpointing_enable()
    learner = Learner(model, balance=True)
    _, found = learner(
        batch.input_ids_BT, batch.documents_BT, batch.targets_BT, batch.weights_BT, batch.lengths_B
    )
    with observed(model) as told:
        model(batch.input_ids_BT, document_ids=batch.documents_BT)
    ((scores_XE, experts_XK),) = told
    mask = torch.arange(batch.input_ids_BT.shape[1]) < batch.lengths_B[:, None]
    expected = load_balancing_loss_func((scores_XE.log(),), 4, experts_XK.shape[1], mask)
    assert not mask.all()  # there is padding to leave out
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    router = model.model.layers[1].feed_forward.router.weight
    (one,) = torch.autograd.grad(found, router)
    (other,) = torch.autograd.grad(expected, router)
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)
    assert one.any()


def test_one_layer_does_not_make_up_for_another() -> None:
    # Two layers, each of which sends all tokens to one expert of two.
    first, second = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[0.0, 1.0]] * 4)
    told = [(scores, scores.argmax(1, keepdim=True)) for scores in (first, second)]
    everyone = torch.ones(4, dtype=torch.bool)
    assert balance_loss(told, everyone).item() == 2.0
    even = torch.tensor([[0.51, 0.49], [0.49, 0.51]] * 2)
    assert balance_loss([(even, even.argmax(1, keepdim=True))], everyone).item() == pytest.approx(1.0)


def test_without_experts_it_is_nothing() -> None:
    assert balance_loss([], torch.ones(3, dtype=torch.bool)).item() == 0.0
