"""The page of a tally: tables and pictures in one file, light and dark."""

from base64 import b64encode
from collections.abc import Mapping
from html import escape

from spellbound.data.stats.tally import Tally

SHOWN = 12
COLUMNS = ("mean", "min", "p5", "median", "p95", "p99", "max", "sum")

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #2b2622; --faint: #dcd5cc; --accent: #8a3b2e; }
@media (prefers-color-scheme: dark) {
  :root { --page: #191614; --ink: #e9e2d8; --faint: #3b3530; --accent: #e0876f; }
}
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 72rem; padding: 2rem 1rem; }
h1, h2 { font-weight: 600; line-height: 1.2; } h2 { margin-top: 2.5rem; color: var(--accent); }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; } .names { display: flex; flex-wrap: wrap; gap: 0 3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; }
caption { text-align: left; font-weight: 600; padding-top: 1.2rem; }
"""


def page(tally: Tally, light: Mapping[str, bytes], dark: Mapping[str, bytes]) -> str:
    """Return the HTML; it needs no other file and no network."""
    counted = ", ".join(f"{count:,} {kind}" for kind, count in tally.rows.items() if count) or "no rows"
    pictures = "".join(
        f"<h2>{escape(name.capitalize())}</h2>\n{_picture(name, light[name], dark[name])}\n" for name in light
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Training data: {escape(counted)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Training data</h1>\n<p>{escape(counted)}</p>\n{pictures}"
        f"<h2>Numbers</h2>\n{_numbers(tally)}\n<h2>Names</h2>\n{_names(tally)}\n</body>\n</html>\n"
    )


def figure(value: float | None) -> str:
    """A number as people read it: whole, or to three digits; nothing for none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3g}"


def _picture(name: str, light: bytes, dark: bytes) -> str:
    day, night = (f"data:image/png;base64,{b64encode(each).decode()}" for each in (light, dark))
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{night}">'
        f'<img src="{day}" alt="Charts of {escape(name)}; the tables below have their numbers"></picture>'
    )


def _numbers(tally: Tally) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in ("", *COLUMNS))
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{figure(row.get(column))}</td>" for column in COLUMNS)
        + "</tr>\n"
        for name, row in ((name, spread.to_row()) for name, spread in tally.spreads.items())
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>'
    )


def _names(tally: Tally) -> str:
    tables = []
    for group, names in tally.names.items():
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{count:,}</td></tr>\n" for name, count in names.most(SHOWN)
        )
        caption = f"<caption>{escape(group)} ({len(names.counts):,})</caption>"
        tables.append(f"<table>\n{caption}\n<tbody>\n{rows}</tbody>\n</table>")
    return f'<div class="names">{"".join(tables)}</div>'
