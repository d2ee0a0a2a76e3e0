"""EPUB: what a reader of the book reads, and nothing that would harm ours."""

import warnings
import zipfile
from pathlib import Path

import pytest

from spellbound.data.readers.epub import read_epub
from spellbound.errors import InputError
from tests.data.reader_files import epub

XHTML = '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><head><title>x</title></head>{}</html>'
PAGE = XHTML.format(
    """<body><h1>Chapter <i>One</i></h1><p>The harbour&nbsp;lay still
    <a epub:type="noteref" href="#n">1</a>under the fog.</p><div>Far out<br/>the bell.</div><hr/>
    <blockquote><p>“Hello?” <img src="a.png" alt="no"/></p></blockquote>loose
    <section id="pg-header"><p>The Project Gutenberg eBook</p></section>
    <aside epub:type="footnote"><p>A note.</p></aside><script>no()</script></body>"""
)


def test_pages_in_order_with_headings_and_breaks(tmp_path: Path) -> None:
    (book,) = read_epub(epub(tmp_path / "a.epub", PAGE, XHTML.format("<body><p>End.</p></body>")))
    assert book.text.split("\n\n") == [
        "Chapter One",
        "The harbour\u00a0lay still under the fog.",
        "Far out\nthe bell.",
        "* * *",
        "“Hello?”",
        "loose",
        "End.",
    ]
    assert (book.title, book.author, book.language, book.year) == ("The Bell", "Ann Example", "en", 1899)


def test_a_book_that_ebooklib_wrote(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ebooklib import epub as library

        book = library.EpubBook()
        book.set_identifier("b1")
        book.set_title("Der Hafen")
        book.set_language("de")
        book.add_author("Anna Beispiel")
        pages = [library.EpubHtml(title=str(at), file_name=f"c{at}.xhtml", lang="de") for at in (1, 2)]
        for at, page in enumerate(pages, 1):
            page.content = f"<h2>Kapitel {at}</h2><p>Die Glocke ruft.</p>"
            book.add_item(page)
        book.toc = tuple(pages)
        book.add_item(library.EpubNcx())
        book.add_item(library.EpubNav())
        book.spine = ["nav", *pages]
        library.write_epub(str(tmp_path / "b.epub"), book)
    (read,) = read_epub(tmp_path / "b.epub")
    assert read.text == "Kapitel 1\n\nDie Glocke ruft.\n\nKapitel 2\n\nDie Glocke ruft."
    assert (read.title, read.author, read.language) == ("Der Hafen", "Anna Beispiel", "de")


@pytest.mark.parametrize("kind", ["cover", "toc", "copyright-page"])
def test_pages_that_are_no_story_are_left_out(tmp_path: Path, kind: str) -> None:
    page = XHTML.format(f'<body epub:type="{kind}"><p>Not this.</p></body>')
    (book,) = read_epub(epub(tmp_path / "a.epub", page, XHTML.format("<body><p>This.</p></body>")))
    assert book.text == "This."


def test_a_page_that_is_no_xml_is_read_as_browsers_do(tmp_path: Path) -> None:
    (book,) = read_epub(epub(tmp_path / "a.epub", "<html><body><p>One<br>two<p>Three &copy;</body>"))
    assert book.text == "One\ntwo\n\nThree ©"


def test_deep_pages_do_not_break_the_stack(tmp_path: Path) -> None:
    page = "<html><body>" + "<div>" * 200 + "deep" + "</div>" * 200 + "</body></html>"
    (book,) = read_epub(epub(tmp_path / "a.epub", page))
    assert book.text == "deep"


def protection(method: str) -> bytes:
    return (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData>'
        f'<EncryptionMethod Algorithm="{method}"/></EncryptedData></encryption>'
    ).encode()


def test_protected_books_are_refused_but_scrambled_fonts_are_not(tmp_path: Path) -> None:
    locked = epub(
        tmp_path / "a.epub", PAGE, META_INF=protection("http://www.w3.org/2001/04/xmlenc#aes128-cbc")
    )
    with pytest.raises(InputError, match=r"a\.epub: is protected \(DRM\)"):
        list(read_epub(locked))
    assert list(
        read_epub(epub(tmp_path / "b.epub", PAGE, META_INF=protection("http://www.idpf.org/2008/embedding")))
    )


def test_broken_and_oversized_files_are_refused(tmp_path: Path) -> None:
    whole = epub(tmp_path / "a.epub", PAGE).read_bytes()
    broken = tmp_path / "broken.epub"
    for content, said in (
        (whole[:200], "no whole zip file"),
        (b"", "no whole zip file"),
        (
            whole.replace(b"META-INF/container.xml", b"META-INF/containe_.xml"),
            "has no META-INF/container.xml",
        ),
    ):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=said):
            list(read_epub(broken))
    bomb = epub(tmp_path / "bomb.epub", "<html><body>" + " " * (65 << 20) + "</body></html>")
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="unpacks to"):
        list(read_epub(bomb))


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.epub"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/container.xml", "<container/>")
    with pytest.raises(InputError, match="names no package"):
        list(read_epub(path))


def test_a_book_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no text"):
        list(read_epub(epub(tmp_path / "a.epub", XHTML.format('<body><img src="a.png"/></body>'))))


def test_lines_of_a_pre_stay_and_others_are_layout(tmp_path: Path) -> None:
    page = XHTML.format("<body><pre>one\ntwo <b>and\nthree</b>\nfour</pre><p>five\nsix</p></body>")
    (book,) = read_epub(epub(tmp_path / "a.epub", page))
    assert book.text == "one\ntwo and three\nfour\n\nfive six"


def test_a_page_that_is_listed_without_end_is_read_once(tmp_path: Path) -> None:
    epub(tmp_path / "a.epub", PAGE)
    with zipfile.ZipFile(tmp_path / "a.epub") as old, zipfile.ZipFile(tmp_path / "b.epub", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b'<itemref idref="p0"/>', b'<itemref idref="p0"/>' * 5000))
    texts = [book.text for name in ("a.epub", "b.epub") for book in read_epub(tmp_path / name)]
    assert texts[0] == texts[1]
