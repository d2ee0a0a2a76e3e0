"""Adapters in folders: PEFT on transformers' own model computes the same from them, and back again."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as rules
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from spellbound.errors import InputError, ModelError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.lora import (
    adapter_parameters,
    attach_lora,
    inspect_adapter,
    load_adapter,
    merge_adapter,
    save_adapter,
)
from spellbound.jamba.lora.attach import adapters
from tests.jamba.adapters import EVERYTHING, EXPERTS, LINEAR, adapted, randomised, settings
from tests.jamba.models import ours, relative_error, tokens, twins

IDS = tokens(2, 19)
LOUD = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning",
    "ignore:Unsupported layer type:UserWarning",
    "ignore:.*embedding layers found in `target_modules`:UserWarning",
    "ignore:Could not find a config file in:UserWarning",
    # Not so: it looks at modules alone, but does heed what is said of parameters.
    "ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning",
)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(IDS).logits
    return found


def in_peft(folder: Path, **changes: Any) -> Any:
    """Transformers' model with the adapter that PEFT reads from the folder."""
    from peft import PeftModel

    return PeftModel.from_pretrained(twins(**changes)[1], folder).eval()


def saved(model: JambaForCausalLM, folder: Path) -> Path:
    save_adapter(model, folder / "adapter", base_name="")
    return folder / "adapter"


@LOUD
@pytest.mark.parametrize(
    "targets",
    [
        LINEAR,
        EXPERTS,
        ("experts.gate_up_proj",),
        ("experts.down_proj",),
        ("router",),
        ("embed_tokens", "lm_head"),
        (r".*layers\.[13]\..*", "layers.0.feed_forward.up_proj"),
    ],
    ids=" ".join,
)
def test_peft_computes_the_same(targets: tuple[str, ...], tmp_path: Path) -> None:
    model = adapted(ours(num_hidden_layers=6, attn_layer_period=2), *targets)
    folder = saved(model, tmp_path)
    theirs = in_peft(folder, num_hidden_layers=6, attn_layer_period=2)
    # Their Mamba reads the weight of dt_proj past any adapter on it, so there the merged one has to do.
    if not any("dt_proj" in name for name in adapters(model)):
        assert relative_error(logits(theirs), logits(model)) < 1e-5
    assert relative_error(logits(theirs.merge_and_unload()), logits(model)) < 1e-5


@LOUD
@pytest.mark.parametrize("changes", [{}, {"num_experts": 1}, {"mamba_proj_bias": True}])
def test_peft_merges_everything_to_the_same(changes: dict[str, Any], tmp_path: Path) -> None:
    targets = [target for target in EVERYTHING if target != "router" or not changes.get("num_experts")]
    model = ours(**changes)
    attach_lora(model, settings(*targets), 0)
    randomised(model, size=0.05)
    theirs = in_peft(saved(model, tmp_path), **changes)
    assert relative_error(logits(theirs.merge_and_unload()), logits(model)) < 1e-5
    expected = logits(model)
    merge_adapter(model)
    assert relative_error(logits(model), expected) < 1e-5


@LOUD
def test_an_adapter_goes_on_learning_in_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    model = adapted(ours(), *LINEAR, *EXPERTS, "router")
    theirs = PeftModel.from_pretrained(twins()[1], saved(model, tmp_path), is_trainable=True)
    theirs(input_ids=IDS, labels=IDS).loss.backward()
    mine = ours()
    load_adapter(mine, tmp_path / "adapter", trainable=True)
    mine(IDS, labels=IDS).loss.backward()
    found = {name: each.grad for name, each in adapter_parameters(mine).items()}
    assert {name for name, each in mine.named_parameters() if each.requires_grad} == {
        name for name, each in mine.named_parameters() if ".lora_" in name
    }
    experts = "base_model.model.model.layers.1.feed_forward.experts"
    for name, theirs_grad in theirs.named_parameters():
        if name == f"{experts}.base_layer.lora_A.default.weight":
            ours_grad = found["model.layers.1.feed_forward.experts.gate_up_proj.lora_A"]
            assert ours_grad is not None
            assert relative_error(ours_grad.flatten(0, 1), theirs_grad.grad) < 1e-4
        elif name.endswith("q_proj.lora_B.default.weight"):
            ours_grad = found["model.layers.1.self_attn.q_proj.lora_B"]
            assert ours_grad is not None
            assert relative_error(ours_grad, theirs_grad.grad) < 1e-4


def made_by_peft(folder: Path, **changes: Any) -> Tensor:
    """Write an adapter with PEFT; return the logits once it is merged."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    wrapped = get_peft_model(twins()[1], LoraConfig(init_lora_weights=False, **changes)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.save_pretrained(folder)
    return logits(wrapped.merge_and_unload())


@LOUD
@pytest.mark.parametrize(
    "changes",
    [
        {"r": 4, "target_modules": ["in_proj", "dt_proj", "o_proj", "gate_proj"]},
        {"r": 2, "lora_alpha": 3, "use_rslora": True, "target_modules": ["x_proj", "q_proj"]},
        {
            "r": 3,
            "target_modules": ["q_proj"],
            "target_parameters": ["experts.gate_up_proj", "experts.down_proj", "router.weight"],
        },
        {"target_modules": [], "target_parameters": ["feed_forward.experts.gate_up_proj"]},
        {"target_modules": ["down_proj"], "target_parameters": ["experts.down_proj"]},
        {"target_modules": ["embed_tokens", "lm_head", "v_proj"]},
        {"target_modules": r".*layers\.0.*_proj"},
        {"target_modules": "all-linear", "r": 2},
        {"target_modules": ["q_proj", "in_proj"], "layers_to_transform": [1, 2]},
        {
            "r": 8,
            "target_modules": ["q_proj", "in_proj"],
            "target_parameters": ["experts.down_proj"],
            "rank_pattern": {"q_proj": 2, r"feed_forward\.experts\.down_proj": 3},
            "alpha_pattern": {"in_proj": 32},
        },
    ],
    ids=repr,
)
def test_what_peft_made_loads_here(changes: dict[str, Any], tmp_path: Path) -> None:
    expected = made_by_peft(tmp_path / "theirs", **changes)
    model = ours()
    plan = load_adapter(model, tmp_path / "theirs")
    assert plan.total == sum(each.numel() for each in adapter_parameters(model).values())
    assert not any(each.requires_grad for each in adapter_parameters(model).values())
    assert relative_error(logits(model), expected) < 1e-5
    again = ours()
    load_adapter(again, saved(model, tmp_path))
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-6)
    theirs = in_peft(tmp_path / "adapter")
    assert relative_error(logits(theirs.merge_and_unload()), expected) < 1e-5


def single_experts(folder: Path, parts: tuple[str, ...], rank: int = 2) -> Tensor:
    """Write an adapter as PEFT did for transformers 4, a module for each expert; return what it computes."""
    model = ours()
    weights = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(5)
    stored = {}
    with torch.no_grad():
        for layer in range(4):
            for part in parts:
                for expert in range(4) if layer % 2 else (None,):
                    shape = (32, 48) if part == "down_proj" else (48, 32)
                    A = torch.randn(rank, shape[1], generator=generator) * 0.2
                    B = torch.randn(shape[0], rank, generator=generator) * 0.2
                    base = f"model.layers.{layer}.feed_forward"
                    name = f"{base}.{part}" if expert is None else f"{base}.experts.{expert}.{part}"
                    stored[f"base_model.model.{name}.lora_A.weight"] = A
                    stored[f"base_model.model.{name}.lora_B.weight"] = B
                    delta = B @ A * (6 / rank)
                    if expert is None:
                        weights[f"{name}.weight"] += delta
                    elif part == "down_proj":
                        weights[f"{base}.experts.down_proj"][expert] += delta
                    else:
                        begin = 0 if part == "gate_proj" else 48
                        weights[f"{base}.experts.gate_up_proj"][expert, begin : begin + 48] += delta
    folder.mkdir(exist_ok=True)
    save_file(stored, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, "target_modules": list(parts)}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return logits(model)


@LOUD
@pytest.mark.parametrize("parts", [EXPERTS, ("gate_proj", "up_proj"), ("up_proj",), ("down_proj",)])
def test_adapters_of_single_experts_load_whole(parts: tuple[str, ...], tmp_path: Path) -> None:
    expected = single_experts(tmp_path / "four", parts)
    model = ours()
    load_adapter(model, tmp_path / "four")
    assert relative_error(logits(model), expected) < 1e-5
    theirs = in_peft(saved(model, tmp_path))
    assert relative_error(logits(theirs), expected) < 1e-5


Change = Callable[[dict[str, Any], dict[str, Tensor]], object]
A_Q = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
B_Q = A_Q.replace("lora_A", "lora_B")
EXPERT = "base_model.model.model.layers.1.feed_forward.experts"


def fill(key: str, value: float) -> Change:
    return lambda _, tensors: tensors[key].fill_(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda _, tensors: tensors.update({A_Q.replace(".1.", ".9."): tensors[A_Q].clone()}),
            r"10 of 11 tensors apply; the first that does not is '.*layers\.9",
        ),
        (
            lambda _, tensors: tensors.pop(A_Q),
            r"8 of 9 tensors apply; the first that does not is '.*q_proj\.lora_B",
        ),
        (
            lambda _, tensors: [tensors.pop(each) for each in (A_Q, B_Q)],
            "names 'q_proj', but there are no tensors for model.layers.1.self_attn.q_proj",
        ),
        (
            lambda _, tensors: [tensors.pop(key) for key in list(tensors) if key.startswith(EXPERT)],
            "names 'feed_forward.experts.down_proj', but there are no tensors",
        ),
        (
            lambda _, tensors: tensors.pop(f"{EXPERT}.base_layer.lora_A.weight"),
            "tensors apply; the first that does not is '.*base_layer.lora_B",
        ),
        (
            lambda _, tensors: tensors.update({A_Q: torch.zeros(3, 31)}),
            r"q_proj: shapes \(3, 31\) and \(32, 3\), where the model needs \(rank, 32\) and \(32, rank\)",
        ),
        (
            lambda _, tensors: tensors.update({A_Q: torch.zeros(0, 32), B_Q: torch.zeros(32, 0)}),
            r"q_proj: shapes \(0, 32\)",
        ),
        (
            lambda _, tensors: tensors.update({f"{EXPERT}.lora_A.weight": torch.zeros(11, 48)}),
            r"down_proj: shapes \(11, 48\) .* needs \(4 x rank, 48\) and \(32, 4 x rank\)",
        ),
        (lambda config, _: config.update(r=4), "the rank is 3 in the tensors and 4 in adapter_config.json"),
        (fill(A_Q, float("nan")), "q_proj.lora_A.weight holds NaN or infinity"),
        (
            lambda config, _: config.update(target_modules=["q_proj", "c_attn"]),
            "names 'c_attn', which the model does not have",
        ),
        (
            lambda config, _: config.update(use_dora=True),
            "use_dora is True, which is more than a low-rank product",
        ),
        (lambda config, _: config.update(modules_to_save=["lm_head"]), r"modules_to_save is \['lm_head'\]"),
        (lambda config, _: config.update(bias="all"), "bias is 'all': biases were trained too"),
        (
            lambda config, _: config.update(init_lora_weights="pissa"),
            "init_lora_weights is 'pissa', which changed the weights",
        ),
    ],
)
def test_what_fits_in_part_is_refused_whole(change: Change, message: str, tmp_path: Path) -> None:
    folder = saved(adapted(ours(), "q_proj", "experts"), tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "adapter_model.safetensors")
    change(config, tensors)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    model = ours()
    before = logits(model)
    with pytest.raises(ModelError, match=message):
        load_adapter(model, folder)
    assert not adapters(model)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)
    assert inspect_adapter(model, folder).faults


@pytest.mark.parametrize("lost", ["experts.2.up_proj.lora_B", "experts.0.down_proj.lora_A"])
def test_a_lost_expert_is_refused(lost: str, tmp_path: Path) -> None:
    single_experts(tmp_path, EXPERTS)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    gone = [tensors.pop(key) for key in list(tensors) if lost in key and ".3." in key]
    assert len(gone) == 1
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"the adapter does not fit the model: .*tensors"):
        load_adapter(ours(), tmp_path)


def test_another_embedding_is_refused(tmp_path: Path) -> None:
    folder = saved(adapted(ours(), "lm_head"), tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    key = "base_model.model.lm_head.base_layer.weight"
    own = ours().lm_head.weight.detach()
    save_file({**tensors, key: own.clone()}, folder / "adapter_model.safetensors")
    load_adapter(ours(), folder)
    save_file({**tensors, key: own + 0.1}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"is not the model's own lm_head\.weight"):
        load_adapter(ours(), folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("adapter_config.json", b"{", "cannot be read"),
        ("adapter_config.json", b"[]", r"peft_type is \[\]"),
        ("adapter_config.json", b'{"peft_type": "LORA", "r": "many"}', "r is 'many'"),
        ("adapter_config.json", b'{"peft_type": "LORA", "r": 0}', "a rank is not a whole number from 1"),
        ("adapter_config.json", b'{"peft_type": "LORA", "alpha_pattern": {"(": 1}}', "is no regular"),
        ("adapter_config.json", b'{"peft_type": "LORA", "target_modules": "(q"}', r"'\(q' is no regular"),
        ("adapter_config.json", b'{"peft_type": "LORA", "lora_alpha": NaN}', "an alpha is not a number"),
        ("adapter_config.json", b'{"peft_type": "LORA", "alpha_pattern": {"q": "8"}}', "an alpha is not a"),
        (
            "adapter_config.json",
            b'{"peft_type": "LORA", "lora_dropout": 1}',
            "lora_dropout is 1; give a share",
        ),
        ("adapter_config.json", b'{"peft_type": "IA3"}', "peft_type is 'IA3'; only 'LORA'"),
        ("adapter_model.safetensors", b"\x10", "not a whole safetensors file"),
        ("adapter_model.safetensors", b"\x02\0\0\0\0\0\0\0{}", "holds no tensors"),
    ],
)
def test_broken_files(file: str, content: bytes, message: str, tmp_path: Path) -> None:
    folder = saved(adapted(ours(), "q_proj"), tmp_path)
    (folder / file).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_adapter(ours(), folder)
    (folder / file).unlink()
    with pytest.raises(ModelError, match=f"{file} is missing; give the folder of a PEFT adapter"):
        load_adapter(ours(), folder)


@rules(max_examples=12, deadline=None)
@given(
    targets=st.sets(st.sampled_from((*LINEAR, "dt_proj", "router", "experts", "lm_head")), min_size=1),
    rank=st.integers(1, 5),
    alpha=st.sampled_from([1.0, 2.5, 16.0]),
    dropout=st.sampled_from([0.0, 0.25]),
)
def test_what_is_saved_is_loaded(targets: set[str], rank: int, alpha: float, dropout: float) -> None:
    model = ours(num_hidden_layers=2)
    attach_lora(model, settings(*sorted(targets), rank=rank, alpha=alpha, dropout=dropout), 0)
    randomised(model)
    with TemporaryDirectory() as place:
        again = ours(num_hidden_layers=2)
        load_adapter(again, saved(model, Path(place)), trainable=True)
    first, second = adapter_parameters(model), adapter_parameters(again)
    assert list(first) == list(second)
    for name, parameter in first.items():
        torch.testing.assert_close(second[name], parameter, rtol=0, atol=0)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0)
    assert again.fingerprint() == model.fingerprint()


def test_gathered_shards_are_saved_in_their_place(tmp_path: Path) -> None:
    model = adapted(ours(), "q_proj")
    gathered = {name: each.detach() + 1 for name, each in adapter_parameters(model).items()}
    save_adapter(model, tmp_path, base_name="somebody/base", tensors=gathered)
    assert (
        json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
        == "somebody/base"
    )
    torch.testing.assert_close(
        load_file(tmp_path / "adapter_model.safetensors")[A_Q],
        gathered["model.layers.1.self_attn.q_proj.lora_A"],
    )


def test_saving_needs_an_adapter_and_a_place(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no adapter to save"):
        save_adapter(ours(), tmp_path, base_name="")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        save_adapter(adapted(ours(), "q_proj"), tmp_path / "file", base_name="")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_inspection_says_all(tmp_path: Path) -> None:
    model = adapted(ours(), "q_proj", "experts")
    report = inspect_adapter(ours(), saved(model, tmp_path))
    assert (report.faults, report.base) == ((), "same")
    assert inspect_adapter(ours().to(torch.bfloat16), tmp_path / "adapter").base == "same"
    assert inspect_adapter(ours(seed=1), tmp_path / "adapter").base == "another"
    places = {tensor.name: tensor.weight for tensor in report.tensors}
    assert places[A_Q] == "model.layers.1.self_attn.q_proj"
    assert places[f"{EXPERT}.base_layer.lora_B.weight"] == "model.layers.1.feed_forward.experts.gate_up_proj"
    norm = float(adapter_parameters(model)["model.layers.1.self_attn.q_proj.lora_A"].detach().norm())
    assert next(each for each in report.tensors if each.name == A_Q).norm == pytest.approx(norm)
    assert len(report.plan.rows) == 5
