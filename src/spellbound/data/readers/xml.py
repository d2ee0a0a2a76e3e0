"""Parses XML that strangers wrote: no entity of its own is expanded and nothing is fetched."""

import html.entities
import re
from collections.abc import Iterator
from typing import Any

from spellbound.data.readers.extras import needed
from spellbound.errors import InputError

with needed("data"):
    from lxml import etree

_NAMED = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,31});")
_XML_ITSELF = {b"lt", b"gt", b"amp", b"quot", b"apos"}


def parsed(content: bytes, place: object) -> Any:
    """The root element. Character entities of HTML are known; comments and instructions are gone.

    Raises InputError naming the place if it is not well-formed or declares entities.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(_NAMED.sub(_numbered, content), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{place}: is not well-formed XML ({said:.200}); mend it there") from error
    declared = root.getroottree().docinfo.internalDTD
    if declared is not None and next(iter(declared.iterentities()), None) is not None:
        raise InputError(f"{place}: declares XML entities of its own; write out what they stand for")
    return root


def parsed_html(content: bytes) -> Any:
    """The root element of a page that is no XML; None if there is nothing in it."""
    parser = etree.HTMLParser(no_network=True, remove_comments=True, remove_pis=True, huge_tree=False)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError:
        return None


def _numbered(match: re.Match[bytes]) -> bytes:
    characters = html.entities.html5.get(f"{match[1].decode()};")
    if characters is None or match[1] in _XML_ITSELF:
        return match[0]
    return "".join(f"&#{ord(each)};" for each in characters).encode()


def local(element: Any) -> str:
    """An element's name without its namespace; empty for what is no element."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def children(element: Any, name: str) -> Iterator[Any]:
    """Child elements of a name, in any namespace."""
    return (each for each in element if local(each) == name)


def descendants(element: Any, *names: str) -> Iterator[Any]:
    """Elements of these names within an element, in any namespace, in the order of the text."""
    return (each for each in element.iter() if local(each) in names)


def attribute(element: Any, name: str) -> str:
    """An attribute by its name without namespace; empty if missing."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return ""


def words(element: Any) -> str:
    """All text within an element, on one line."""
    return " ".join("".join(element.itertext()).split())
