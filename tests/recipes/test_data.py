import json
from argparse import Namespace
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from recipes.nano import corpora as corpora_module
from recipes.nano import data, packing, renaming, simulated, tokenizer
from spellbound.data.simulator import HELD_OUT_FROM
from spellbound.errors import InputError


@pytest.fixture(scope="module")
def made(corpora: Path, bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    tokenizer.save(bpe, out / "tokenizer")
    lengths = {"pretrain_length": 2048, "sft_length": 8192}
    stories = {
        "pretrain_stories": 2,
        "drills": 6,
        "renamed": 0.5,
        "sft_first": 0,
        "sft_stories": 3,
        "valid_stories": 2,
    }
    data.main(Namespace(corpora=corpora, out=out, seed=1, only=None, **lengths, **stories))
    return out


def documents_of(rows: packing.Rows, bpe: Tokenizer) -> list[str]:
    found: list[str] = []
    for tokens, numbers in zip(rows.tokens, rows.documents, strict=True):
        for number in sorted(set(numbers.tolist())):
            text = bpe.decode(tokens[numbers == number].tolist(), skip_special_tokens=False)
            found += [text] if not text.startswith(tokenizer.PAD) else []
    return found


def test_simple_stories_repeat_and_held_out_ones_are_only_in_validation(
    made: Path, corpora: Path, bpe: Tokenizer
) -> None:
    trained = documents_of(packing.read(made / "data" / "pretrain"), bpe)
    valid = documents_of(packing.read(made / "data" / "pretrain_valid"), bpe)
    held = 0
    for document in corpora_module.read(corpora, "simple_en"):
        whole = f"{tokenizer.BOS}{document.text}{tokenizer.EOS}"
        kept = corpora_module.held_out(document.id)
        held += kept
        assert (trained.count(whole), valid.count(whole)) == ((0, 1) if kept else (4, 0)), document.id
    assert held > 0


def test_sft_learns_completions_only(made: Path, bpe: Tokenizer) -> None:
    rows = packing.read(made / "data" / "sft")
    assert rows.tokens.shape[1] == 8192
    told = renaming.renamed(simulated.training(3), 0.5, seed=1)
    wanted = sorted(f"{example.completion}{tokenizer.EOS}" for example in told)
    learnt: list[str] = []
    for tokens, numbers, learn in zip(rows.tokens, rows.documents, rows.learn, strict=True):
        for number in set(numbers.tolist()):
            ids = tokens[(numbers == number) & (learn == 1)].tolist()
            learnt += [bpe.decode(ids, skip_special_tokens=False)] if ids else []
    assert sorted(learnt) == wanted


def test_report_counts_what_is_there(made: Path, corpora: Path) -> None:
    table = (made / "data" / "report.md").read_text(encoding="utf-8")
    assert "| pretrain | simulator |" in table
    german = [document.id for document in corpora_module.read(corpora, "simple_de")]
    kept = sum(not corpora_module.held_out(name) for name in german)
    assert f"| pretrain | simple_de | {kept} |" in table
    meta = packing.read(made / "data" / "pretrain").meta
    assert meta["sources"]["simple_en"]["repeats"] == 4
    assert meta["sources"]["simple_en"]["licenses"] == ["CC BY 4.0"]
    assert "drama_de" not in meta["sources"]


def test_one_stage_can_be_made_again(made: Path, corpora: Path) -> None:
    before = (made / "data" / "pretrain" / "tokens.bin").stat()
    lengths = {"pretrain_length": 64, "sft_length": 8192}
    stories = {
        "pretrain_stories": 1,
        "drills": 6,
        "renamed": 0.5,
        "sft_first": 0,
        "sft_stories": 3,
        "valid_stories": 2,
    }
    data.main(Namespace(corpora=corpora, out=made, seed=1, only="sft", **lengths, **stories))
    assert (made / "data" / "pretrain" / "tokens.bin").stat() == before
    report = json.loads((made / "data" / "report.json").read_text(encoding="utf-8"))
    stages = ("drill", "pretrain", "sft")
    assert sorted(report) == sorted(f"{stage}{part}" for stage in stages for part in ("", "_valid"))
    assert report["pretrain"]["length"] == 2048


def test_a_prompt_is_encoded_as_the_chat_template_says(made: Path, bpe: Tokenizer) -> None:
    example = next(iter(simulated.training(1)))
    sequence = data.told(bpe, example.prompt.render(), example.completion)
    loaded = tokenizer.load(made / "tokenizer")
    asked = [{"role": "user", "content": example.prompt.render()}]
    text = loaded.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert loaded(text, add_special_tokens=False).input_ids == sequence.ids[: sequence.given].tolist()


def test_pieces_are_whole_paragraphs() -> None:
    text = "\n\n".join("word " * n for n in range(1, 30))
    assert "\n\n".join(data.pieces(text, 100)) == text
    assert all(len(piece) >= 100 for piece in data.pieces(text, 100)[:-1])


def test_a_play_is_text_with_its_speakers(corpora: Path) -> None:
    (play,) = corpora_module.read(corpora, "drama_de")
    assert play.text == "Erster Akt\n\n(Ein Wald.)\n\nAnna: Wer da?"


def test_about_a_twentieth_is_held_out() -> None:
    assert 400 < sum(corpora_module.held_out(f"story/{n}") for n in range(10_000)) < 600


def test_training_seeds_stop_before_the_held_out_ones() -> None:
    assert all(example.seed >= HELD_OUT_FROM for example in simulated.unseen(3))
    with pytest.raises(InputError, match="reach the held-out seeds"):
        next(simulated.training(2, first=HELD_OUT_FROM - 1))


def test_damaged_and_foreign_corpora_are_refused(tmp_path: Path, corpora: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        corpora_module.collections(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no \.parquet file"):
        corpora_module.collections(tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        list(corpora_module.read(tmp_path, "bad"))
