"""The code of docs/model.md runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    not (ROOT / "models/nano/model.safetensors").is_file(),
    reason="no bundled model in models/nano; use a complete clone",
)
def test_docs_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    exec(compile("\n".join(blocks), "docs/model.md", "exec"), {})  # noqa: S102 (our own page)
    assert "KernelReport(name=" in capsys.readouterr().out
