"""Markdown to paragraphs, and front matter to metadata."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.readers.markdown import front_matter, markdown_paragraphs, read_markdown
from spellbound.errors import InputError

PAGE = """\
---
title: "The Bell"
author: [Ann Example, Ben Example]
language: en
licence: CC0-1.0
date: 2021-05-06
tags:
  - sea
---
# Chapter *One*

The _harbour_ lay **still**
under the [fog](https://example.org "x"). ![boat](a.png)

> “Hello?”\\
> said `Mara`.

- a lamp
- a bell

***

```
SOS
SOS
```

<div>Far <b>out</b> &amp; away</div>

3 \\* 4 &lt; 13<br>done
"""


def test_what_is_read_is_what_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "bell.md"
    path.write_text(PAGE, encoding="utf-8")
    (document,) = read_markdown(path)
    assert document.text.split("\n\n") == [
        "Chapter One",
        "The harbour lay still under the fog.",
        "“Hello?”\nsaid Mara.",
        "a lamp",
        "a bell",
        "* * *",
        "SOS\nSOS",
        "Far out & away",
        "3 * 4 < 13\ndone",
    ]
    assert (document.title, document.author) == ("The Bell", "Ann Example; Ben Example")
    assert (document.language, document.licence, document.year) == ("en", "CC0-1.0", 2021)


def test_front_matter_in_toml_and_none() -> None:
    assert front_matter('+++\ntitle = "A"\nauthors = ["B", "C"]\n+++\nText', "x") == (
        {"title": "A", "authors": "B; C"},
        "Text",
    )
    assert front_matter("---\n\nNo pairs: here\n", "x")[0] == {}
    assert front_matter("Text\n---\n", "x") == ({}, "Text\n---\n")
    with pytest.raises(InputError, match="front matter is no TOML"):
        front_matter("+++\ntitle =\n+++\n", "x")


@settings(deadline=None)
@given(st.lists(st.text("abc xyz.,!?“”’", min_size=1).filter(lambda text: text.strip(" .,")), min_size=1))
def test_plain_paragraphs_stay(paragraphs: list[str]) -> None:
    said = [" ".join(each.split()) for each in paragraphs]
    assert markdown_paragraphs("\n\n".join(said)) == said


@settings(deadline=None)
@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert all(isinstance(each, str) for each in markdown_paragraphs(text))


def test_an_empty_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.md"
    path.write_text("---\ntitle: A\n---\n![only](a.png)\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"empty\.md: has no text"):
        list(read_markdown(path))


def test_numbers_of_a_list_are_shown_and_so_read() -> None:
    assert markdown_paragraphs("1986. The bell rang.\n\n- Nobody came.\n\n3) Nobody left.") == [
        "1986. The bell rang.",
        "Nobody came.",
        "3) Nobody left.",
    ]
