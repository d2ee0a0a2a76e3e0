"""`spellbound adapter`: what it says and writes, and what it refuses."""

import json
import shutil
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import JambaForCausalLM as TransformersJamba
from typer.testing import CliRunner

from spellbound.cli.app import app
from spellbound.engine import load_model
from spellbound.jamba.lora import adapter_parameters, load_adapter, save_adapter
from tests.conftest import make_model
from tests.jamba.adapters import adapted
from tests.jamba.models import relative_error, tokens

IDS = tokens(1, 20)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    save_adapter(adapted(make_model(), "q_proj", "experts"), tmp_path / "adapter", base_name="tiny")
    return tmp_path / "adapter"


def run(*arguments: object) -> tuple[int, str, str]:
    """Run the command in this process; return status, output and errors."""
    result = CliRunner().invoke(app, ["adapter", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_check_names_every_tensor(adapter: Path, tiny_folder: Path) -> None:
    status, output, _ = run("check", adapter, "--model", tiny_folder)
    lines = output.splitlines()
    assert status == 0
    assert len(load_file(adapter / "adapter_model.safetensors")) == 10
    named = [line for line in lines if " -> " in line]
    assert len(named) == 10
    assert named[0].endswith(" -> model.layers.1.feed_forward.experts.gate_up_proj")
    assert any("self_attn.q_proj.lora_A.weight 3 x 32 norm " in line for line in lines)
    assert lines[-2].endswith(f"{tiny_folder}: these are the weights it was trained on")
    assert lines[-1] == f"{adapter}: 10 tensors, all of them fit"


def test_check_names_every_fault(adapter: Path, tiny_folder: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    first, second = sorted(tensors)[:2]
    tensors[first][0, 0] = float("nan")
    tensors["base_model.model.model.layers.7.lora_A.weight"] = tensors.pop(second)
    save_file(tensors, file)
    status, output, _ = run("check", adapter, "--model", tiny_folder)
    assert status == 2
    assert "norm NOT FINITE" in output
    assert "-> NOWHERE" in output
    assert "8 of 10 tensors apply; the first that does not is" in output
    assert f"{first} holds NaN or infinity" in output
    assert "does not say which weights" in output


def test_merge(adapter: Path, tiny_folder: Path, tmp_path: Path) -> None:
    status, output, _ = run("merge", adapter, "--model", tiny_folder, "-o", tmp_path / "merged")
    assert (status, output.count("5 adapters merged, float32, ")) == (0, 1)
    wanted = make_model()
    load_adapter(wanted, adapter)
    theirs = TransformersJamba.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        assert relative_error(theirs(IDS).logits, wanted(IDS).logits) < 1e-5
    copied, original = (folder / "tokenizer.json" for folder in (tmp_path / "merged", tiny_folder))
    assert copied.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("way", [["merge"], ["export", "--to", "gguf"]])
def test_other_weights_are_said(adapter: Path, tiny_folder: Path, tmp_path: Path, way: list[str]) -> None:
    status, _, told = run(*way, adapter, "--model", tiny_folder, "-o", tmp_path / "same")
    assert (status, told) == (0, "")
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    make_model(seed=1).save_pretrained(other)
    status, _, told = run(*way, adapter, "--model", other, "-o", tmp_path / "new")
    assert (status, told) == (0, f"spellbound: {adapter}: was trained on other weights than these\n")


def test_export_for_peft(adapter: Path, tiny_folder: Path, tmp_path: Path) -> None:
    status, output, _ = run("export", adapter, "--model", tiny_folder, "--to", "peft", "-o", tmp_path / "new")
    assert (status, output) == (0, f"{tmp_path / 'new'}: 10 tensors for PEFT\n")
    first, second = make_model(), make_model()
    load_adapter(first, adapter)
    load_adapter(second, tmp_path / "new")
    for name, parameter in adapter_parameters(first).items():
        assert torch.equal(parameter, adapter_parameters(second)[name])
    config = json.loads((tmp_path / "new" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == str(tiny_folder)


@pytest.mark.parametrize("with_adapter", [True, False])
def test_export_for_llama_cpp(with_adapter: bool, adapter: Path, tiny_folder: Path, tmp_path: Path) -> None:
    given = [adapter] if with_adapter else []
    file = tmp_path / "tiny.gguf"
    options = ["--model", tiny_folder, "--to", "gguf", "--type", "F32", "-o", file]
    status, output, _ = run("export", *given, *options)
    assert status == 0
    assert output.startswith(f"{file}: F32, {file.stat().st_size:,} bytes, with its tokenizer")
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}
    model = load_model(tiny_folder, device="cpu", adapter=adapter if with_adapter else None)
    wanted = model.state_dict()["model.layers.2.self_attn.q_proj.weight"]
    torch.testing.assert_close(torch.from_numpy(found["blk.2.attn_q.weight"].copy()), wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere"], "nowhere: adapter_config.json is missing; give the folder of a PEFT adapter"),
        (["check", "ADAPTER", "--model", "nowhere"], "model 'nowhere' is not a folder"),
        (["merge", "ADAPTER", "-o", "ADAPTER"], "is not empty; give a new folder"),
        (["merge", "nowhere", "-o", "new"], "adapter_config.json is missing"),
        (["export", "--to", "peft", "-o", "new"], "--to peft exports an adapter and none was given"),
        (["export", "--to", "gguf", "--type", "Q2_K", "-o", "x.gguf"], "GGUF type 'Q2_K' is unknown"),
        (["export", "--to", "gguf", "-o", "no/x.gguf"], "the directory no does not exist"),
        (["export", "--to", "onnx", "-o", "x"], "'onnx' is not one of 'gguf', 'peft'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], message: str, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, output, errors = run(*(adapter if each == "ADAPTER" else each for each in arguments))
    assert (status, output) == (2, "")
    assert errors.startswith("spellbound: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["adapter"]
