"""The structural tag for xgrammar says the same as the grammar for llguidance."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from spellbound.directives import grammar, structural_tag
from tests.directives.cases import ACCEPTED, CAST, REJECTED, UNFINISHED
from tests.directives.test_grammar import verdict as llguidance_verdict

END = 256
Verdict = Callable[[str, str], str]


@pytest.fixture(scope="module")
def xgrammar() -> Any:
    """Imported late: it drags in torch, which collecting these tests must not."""
    return pytest.importorskip("xgrammar", reason="xgrammar is not installed: pip install 'xgrammar>=0.2.8'")


@pytest.fixture(scope="module")
def verdict(xgrammar: Any) -> Verdict:
    """Judge a text by a structural tag; one token a byte, and one to end."""
    vocabulary = [*(bytes([byte]) for byte in range(256)), b"<end>"]
    info = xgrammar.TokenizerInfo(
        vocabulary, vocab_type=xgrammar.VocabType.RAW, vocab_size=len(vocabulary), stop_token_ids=[END]
    )
    compiler = xgrammar.GrammarCompiler(info, max_threads=1)

    def judge(text: str, tag: str) -> str:
        matcher = xgrammar.GrammarMatcher(compiler.compile_structural_tag(tag))
        if not all(matcher.accept_token(byte) for byte in text.encode()):
            return "rejected"
        return "accepted" if matcher.accept_token(END) else "unfinished"

    return judge


def test_the_same_table(verdict: Verdict) -> None:
    tag = structural_tag(CAST)
    found = {text: verdict(text, tag) for text in [*ACCEPTED, *REJECTED, *UNFINISHED]}
    expected = dict.fromkeys(ACCEPTED, "accepted") | dict.fromkeys(REJECTED, "rejected")
    assert found == expected | dict.fromkeys(UNFINISHED, "unfinished")


@pytest.mark.parametrize(
    "text", ["", "a &lt;", "<", ">", "<action>x</action>", '<quote speaker="32AN4R">x</quote>']
)
def test_the_same_without_tags_and_without_speakers(text: str, verdict: Verdict) -> None:
    without_tags = llguidance_verdict(text, grammar(CAST, tags=False))
    assert verdict(text, structural_tag(CAST, tags=False)) == without_tags
    assert verdict(text, structural_tag([])) == llguidance_verdict(text, grammar([]))


def test_it_is_what_vllm_takes(xgrammar: Any) -> None:
    shape = json.loads(structural_tag(CAST))
    assert shape["type"] == "structural_tag"
    assert xgrammar.StructuralTag.from_json(shape).type == "structural_tag"
