"""Small files of every kind, made on the spot."""

import base64
import json
import struct
import zipfile
import zlib
from pathlib import Path

from spellbound.data.readers.png import SIGNATURE


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A picture of one grey point, with these chunks before its end."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    every = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0\0")), *chunks, (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in every
    )


def text_chunk(keyword: str, text: str) -> tuple[bytes, bytes]:
    return b"tEXt", keyword.encode() + b"\0" + text.encode("latin-1")


def card_chunk(keyword: str, card: object) -> tuple[bytes, bytes]:
    return text_chunk(keyword, base64.b64encode(json.dumps(card).encode()).decode())


PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Bell</dc:title>
<dc:creator>Ann Example</dc:creator><dc:language>en-GB</dc:language><dc:date>1899-01-01</dc:date></metadata>
<manifest>{items}</manifest><spine>{spine}</spine></package>"""
CONTAINER = """<?xml version="1.0"?>
<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>
<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""


def epub(path: Path, *pages: str, **members: bytes) -> Path:
    """An EPUB by hand: bodies of pages, and further files by name (`META_INF`: encryption.xml)."""
    numbers = range(len(pages))
    items = "".join(
        f'<item id="p{at}" href="p%20{at}.xhtml" media-type="application/xhtml+xml"/>' for at in numbers
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", CONTAINER)
        spine = "".join(f'<itemref idref="p{at}"/>' for at in numbers)
        archive.writestr("OEBPS/book.opf", PACKAGE.format(items=items, spine=spine))
        for at, page in enumerate(pages):
            archive.writestr(f"OEBPS/p {at}.xhtml", page)
        if "META_INF" in members:
            archive.writestr("META-INF/encryption.xml", members["META_INF"])
    return path


PLAY = """<?xml version="1.0" encoding="utf-8"?>
<TEI xmlns="http://www.tei-c.org/ns/1.0" xml:id="x1" xml:lang="de">
<teiHeader><fileDesc><titleStmt><title type="main">Die Glocke</title>
<author><persName><forename>Anna</forename><nameLink>von</nameLink><surname>Beispiel</surname></persName></author></titleStmt>
<publicationStmt><availability><licence><ab>CC0 1.0</ab></licence></availability></publicationStmt></fileDesc>
<profileDesc><particDesc><listPerson>
<person xml:id="mara" sex="FEMALE"><persName>Mara</persName><persName>Frau Voss</persName></person>
<person xml:id="tom" sex="MALE"><persName>Tom (II/8)</persName></person>
<personGrp xml:id="volk" sex="UNKNOWN"><name>Volk</name></personGrp>
</listPerson></particDesc></profileDesc></teiHeader>
<standOff><listEvent><event type="print" when="1801"/>
<event type="premiere" when="1799-02-03"/></listEvent></standOff>
<text><front><castList><castItem>Mara</castItem></castList></front><body>
<div type="act"><head>Erster Akt</head><stage>Am Hafen.</stage>
<div type="scene"><head>1. Szene</head>
<sp who="#mara"><speaker>MARA.</speaker><stage>leise</stage>
<p>Wer da? <stage>Sie hebt die
 Lampe.</stage> Ist jemand <hi>hier</hi>?<note>Anm.</note></p><p>Niemand.</p></sp>
<sp who="#mara #tom"><speaker>BEIDE.</speaker><lg><l>Die Glocke ruft,</l>
<l>sie <choice><sic>schwigt</sic><corr>schweigt</corr></choice>.</l></lg></sp>
<sp><speaker>Der Wirt.</speaker><p>Guten Abend&nbsp;&amp; so!</p></sp>
<stage who="#tom">Tom geht ab.</stage>
</div></div></body><back><div><p>Nachwort</p></div></back></text></TEI>"""
