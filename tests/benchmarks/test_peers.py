"""What peers are given is what we compute; without the packages of the extra ``bench``."""

from typing import Any

import pytest
import torch

from benchmarks.bench_scan import conv_inputs
from benchmarks.configs import config_of, our_model, token_ids
from benchmarks.measure import Settings
from benchmarks.peers import peer_module
from benchmarks.peers.scans import torch_conv
from benchmarks.readers import Agreement, greedy, open_reader
from spellbound.errors import EnvironmentFault
from spellbound.jamba.ops.reference import causal_conv_reference
from spellbound.train.gguf_file import gguf_tensors


@pytest.mark.parametrize("name", ["nano", "narrow"])
def test_every_weight_is_in_the_gguf_file_once(name: str) -> None:
    config, weights = config_of(name), our_model(name).state_dict()
    tensors = list(gguf_tensors(config, weights))
    names = [tensor.name for tensor in tensors]
    assert len(set(names)) == len(names)
    del weights["lm_head.weight"]  # tied
    assert sum(tensor.values.numel() for tensor in tensors) == sum(
        value.numel() for value in weights.values()
    )


def test_gguf_tensors_are_named_and_valued_as_llama_cpp_wants() -> None:
    weights = our_model("nano").state_dict()
    found = {tensor.name: tensor.values for tensor in gguf_tensors(config_of("nano"), weights)}
    assert found["blk.0.ssm_a"].equal(-weights["model.layers.0.mamba.A_log"].exp())
    assert found["blk.0.ssm_conv1d.weight"].equal(weights["model.layers.0.mamba.conv1d.weight"][:, 0])
    assert found["blk.1.attn_q.weight"].equal(weights["model.layers.1.self_attn.q_proj.weight"])
    experts = weights["model.layers.1.feed_forward.experts.gate_up_proj"]
    both = torch.cat([found["blk.1.ffn_gate_exps.weight"], found["blk.1.ffn_up_exps.weight"]], 1)
    assert both.equal(experts)
    assert found["blk.0.ffn_gate.weight"].equal(weights["model.layers.0.feed_forward.gate_proj.weight"])


def test_only_the_weights_of_products_may_be_quantised() -> None:
    tensors = gguf_tensors(config_of("nano"), our_model("nano").state_dict())
    small = {
        tensor.name.removeprefix("blk.1.").removeprefix("blk.0.") for tensor in tensors if not tensor.large
    }
    layer = {name for name in small if not name.startswith("blk.")}
    assert layer == {
        "output_norm.weight",
        "attn_norm.weight",
        "ffn_norm.weight",
        "ffn_gate_inp.weight",
        "ssm_conv1d.weight",
        "ssm_conv1d.bias",
        "ssm_dt.bias",
        "ssm_dt_norm.weight",
        "ssm_b_norm.weight",
        "ssm_c_norm.weight",
        "ssm_a",
        "ssm_d",
    }


def test_our_reader_and_transformers_agree_reading_and_writing() -> None:
    settings = Settings()
    ours, theirs = (open_reader(name, "narrow", settings) for name in ("ours fp32", "transformers"))
    ids = token_ids(config_of("narrow"), 40).tolist()
    found = Agreement.of(ours, theirs, ids[:32], ids[32:])
    assert found.median <= found.worst < 1e-4


def test_greedy_reading_goes_on_from_what_was_read() -> None:
    reader = open_reader("ours fp32", "narrow", Settings())
    ids = token_ids(config_of("narrow"), 9).tolist()
    reader.read(ids[:8])
    after_one = greedy(reader, ids[8], 1)
    reader.restart()
    assert int(reader.read(ids).argmax()) == after_one


def test_the_convolution_of_torch_is_the_same_operation() -> None:
    inputs = conv_inputs(2, 11, 5, torch.float32, "cpu")
    arguments: list[Any] = [*inputs, None, None]
    torch.testing.assert_close(torch_conv(*inputs), causal_conv_reference(*arguments))


def test_a_peer_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(EnvironmentFault, match="make bench"):
        peer_module("no_such_peer")
