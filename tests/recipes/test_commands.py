import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from recipes.nano import console, data, evaluate, export, loop, packing, tokenizer, training, writing
from recipes.nano import model as model_module
from recipes.nano.simulated import Example
from spellbound.data.simulator import Check
from spellbound.directives import Character, StoryPrompt
from spellbound.errors import EnvironmentFault, InputError
from spellbound.jamba import JambaForCausalLM
from tests.recipes.conftest import micro

ROOT = Path(__file__).parents[2]


def test_missing_corpora_are_one_line_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recipes.nano.data", "--corpora", "nowhere", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    remedy = "name one with --corpora FOLDER"
    assert done.stderr == f"error: corpora folder 'nowhere' does not exist; {remedy}\n"


@pytest.mark.parametrize("command", [tokenizer, evaluate, export])
def test_what_is_missing_is_one_line_and_status_2(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {"corpora": tmp_path / "none", "out": tmp_path, "model": tmp_path, "target": tmp_path / "nano"}
    options = Namespace(**folders, seed=1, stage="sft", stories=1, threads=1)
    assert console.run(command.main, options) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1


def test_faults_of_the_machine_are_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Namespace) -> None:
        raise EnvironmentFault("no compiler; install one")

    assert console.run(main, Namespace()) == 1
    assert capsys.readouterr().err == "error: no compiler; install one\n"


def test_a_full_disk_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Namespace) -> None:
        raise OSError(28, "No space left on device", "runs/nano/pretrain/checkpoint.pt")

    assert console.run(main, Namespace()) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: [Errno 28] No space left on device: 'runs/nano/pretrain/checkpoint.pt'")
    assert printed.count("\n") == 1


@pytest.fixture(scope="module")
def out(corpora: Path, bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    tokenizer.save(bpe, folder / "tokenizer")
    lengths = {"pretrain_length": 64, "sft_length": 2048}
    stories = {
        "pretrain_stories": 1,
        "drills": 6,
        "renamed": 0.5,
        "sft_first": 0,
        "sft_stories": 2,
        "valid_stories": 1,
    }
    data.main(Namespace(corpora=corpora, out=folder, seed=1, only=None, **lengths, **stories))
    return folder


@pytest.fixture
def _micro(monkeypatch: pytest.MonkeyPatch) -> None:
    small = micro().config
    monkeypatch.setattr(model_module, "config", lambda: small)


@pytest.mark.usefixtures("_micro")
def test_from_rows_to_a_filled_card(out: Path, corpora: Path, tmp_path: Path) -> None:
    common = {"out": out, "seed": 1, "bf16": False, "fresh": False, "minutes": None, "workers": 1}
    for stage, batch, tokens in (("pretrain", 4, 64 * 4 * 2), ("sft", 1, 2048 * 2)):
        options = Namespace(**common, batch=batch, tokens=tokens, rate=1e-3)
        training.train(stage, options, lambda network: model_module.initialise(network, 1))
    target = tmp_path / "nano"
    target.mkdir()
    (target / "README.md").write_text((ROOT / "models" / "nano" / "README.md").read_text(encoding="utf-8"))
    export.main(Namespace(out=out, stage="sft", target=target))
    _check_folder(target, out)
    evaluate.main(
        Namespace(
            out=out, corpora=corpora, model=target, bytes=500, stories=1, samples=1, threads=1, max_tokens=8
        )
    )
    found = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert found["writing"]["constrained"]["passages"] == 1
    assert found["writing"]["constrained"]["well_formed"] == 1
    assert {"simple_en", "simulator, given the prompt"} <= {entry["source"] for entry in found["bits"]}
    card = (target / "README.md").read_text(encoding="utf-8")
    assert "Not measured yet" not in card


def _check_folder(target: Path, out: Path) -> None:
    names = {path.name for path in target.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    loaded = JambaForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    kept = loop.read_checkpoint(out / "sft")["model"]
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, kept[name].half().float()), name
    assert AutoTokenizer.from_pretrained(target)("a").input_ids


@pytest.mark.usefixtures("_micro")
def test_a_budget_below_one_step_is_refused(out: Path, tmp_path: Path) -> None:
    options = Namespace(out=out, seed=1, bf16=False, batch=4, tokens=10, minutes=None, rate=1e-3)
    rows = packing.read(out / "data" / "pretrain")
    with pytest.raises(InputError, match="less than one step of 4 rows"):
        training.planned(options, micro(), rows)


MARA = Character("Mara", "32AN4R", ())


def told(text: str, *, mended: int = 0, tags: bool = True) -> writing.Tally:
    checks = (Check("speaks", ("32AN4R",)), Check("no_sound"))
    tally = writing.Tally()
    example = Example(StoryPrompt((MARA,), "", ("Go.",), tags), "", checks, 1)
    tally.add(example, writing.Written(text, mended, ended=True))
    return tally


@pytest.mark.parametrize(
    ("text", "well_formed", "speaks", "silent"),
    [
        ('<quote speaker="32AN4R">Go!</quote>', 1, 1, 1),
        ('<quote speaker="XXXXXX">Go!</quote>', 0, 0, 1),
        ('<quote speaker="32AN4R">Go! <sound>Boom.</sound>', 0, 1, 0),
        ("Nobody spoke.", 1, 0, 1),
    ],
)
def test_writing_is_judged_by_rule(text: str, well_formed: int, speaks: int, silent: int) -> None:
    tally = told(text)
    assert tally.well_formed == well_formed
    assert (tally.followed["speaks"], tally.followed["no_sound"]) == (speaks, silent)
    assert tally.report()["instructions"]["asked"] == 2
    assert tally.tagged == ("<quote" in text)


def test_what_had_to_be_mended_was_not_well_formed() -> None:
    assert told('<quote speaker="32AN4R">Go!</quote>', mended=1).well_formed == 0
