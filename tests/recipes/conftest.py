"""Small stand-ins for corpora, tokenizer and model, made on the spot; commands run in this process."""

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch
from tokenizers import Tokenizer
from transformers import JambaConfig
from typer.testing import CliRunner

from recipes.nano import tokenizer
from spellbound.cli import app
from spellbound.jamba import JambaForCausalLM
from spellbound.train.start import fresh_model

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes" / "nano"
STORIES = (
    "Once upon a time a fox lived by the old mill. “Good morning,” said the fox.\n\nHe left.",
    "The girl's boat was small. She didn't mind. She went 12 miles, and the wind blew.\n\nAt night it rang.",
    "Ein König hatte drei Töchter, die waren schön.\n\nDie jüngste ging in den Wald.",
    "كان هناك رجل طويل جدا\n\nوكان بيته صغيرا",
)


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three collections: simple stories, a novel of many paragraphs, plays."""
    folder = tmp_path_factory.mktemp("corpora")
    stories = [(f"simple/en/{n}", STORIES[n % 2] + f"\n\nStory {n} ends.") for n in range(60)]
    novels = [(f"novel/{n}", "\n\n".join(f"{STORIES[m % 2]} {m}" for m in range(60))) for n in range(30)]
    _write(folder / "simple_en.parquet", stories, "en", "CC BY 4.0")
    _write(folder / "eltec_en.parquet", novels, "en", "CC BY 4.0")
    _write(
        folder / "simple_de.parquet", [(f"simple/de/{n}", STORIES[2]) for n in range(5)], "de", "CC BY 3.0"
    )
    speeches = [
        {"kind": "head", "speaker": "", "name": "", "text": "Erster Akt"},
        {"kind": "stage", "speaker": "", "name": "", "text": "Ein Wald."},
        {"kind": "speech", "speaker": "a", "name": "Anna", "text": "Wer da?"},
    ]
    columns = {"id": ["play/1"], "lang": ["de"], "license": ["CC0 1.0"], "text": [""], "speeches": [speeches]}
    parquet.write_table(arrow.table(columns), folder / "drama_de.parquet")
    return folder


def _write(path: Path, documents: list[tuple[str, str]], lang: str, license_name: str) -> None:
    ids, texts = zip(*documents, strict=True)
    columns = {"id": ids, "lang": [lang] * len(ids), "license": [license_name] * len(ids), "text": texts}
    parquet.write_table(arrow.table({name: list(values) for name, values in columns.items()}), path)


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    """A tokenizer with few merges, otherwise as the real one."""
    return tokenizer.train(STORIES * 3, vocabulary=400)


def micro_config(vocabulary: int = 400) -> JambaConfig:
    """Nano's architecture with everything small."""
    values = json.loads((RECIPES / "config.json").read_text(encoding="utf-8"))
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4}
    small |= {"mamba_dt_rank": 4, "mamba_d_state": 4, "vocab_size": vocabulary}
    return JambaConfig.from_dict(values | small)


def micro(seed: int = 0, vocabulary: int = 400) -> JambaForCausalLM:
    """A model of that shape, random but seeded."""
    return fresh_model(micro_config(vocabulary), seed)


def recipe_command(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> int:
    """Run `python -m recipes.nano.NAME` with these arguments; return the exit status."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(RECIPES / f"{name}.py"), run_name="__main__")
    assert isinstance(ended.value.code, int)
    return ended.value.code


def spellbound(*arguments: object) -> str:
    """Run `spellbound` with these arguments; return what it printed."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.output
