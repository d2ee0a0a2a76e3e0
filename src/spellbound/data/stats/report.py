"""The files of a tally: page, pictures and numbers."""

import json
from pathlib import Path

from spellbound.data.stats.page import page
from spellbound.data.stats.plots import DARK, LIGHT, draw
from spellbound.data.stats.tally import Tally
from spellbound.files import replacing_folder


def write_report(tally: Tally, folder: Path) -> list[Path]:
    """Write `stats.html`, `stats.json` and the pictures of it into a folder; return the files."""
    light, dark = draw(tally, LIGHT), draw(tally, DARK)
    files: dict[str, bytes] = {
        "stats.html": page(tally, light, dark).encode(),
        "stats.json": (json.dumps(tally.to_row(), indent=1, ensure_ascii=False) + "\n").encode(),
        **{f"{name}.png": picture for name, picture in light.items()},
    }
    with replacing_folder(folder) as draft:
        for name, content in files.items():
            (draft / name).write_bytes(content)
    return [folder / name for name in files]
