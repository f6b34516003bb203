"""Parallel text from LibreOffice's help: paragraphs under one id in one page of two languages."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from stk.data.example import Example
from stk.errors import StkError

PAGES = Path("usr/share/libreoffice/help")
_BLOCKS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6"})
_LEAST = 4
"""Words of a paragraph; shorter ones are labels, menu paths and cells of tables."""


class _Paragraphs(HTMLParser):
    """Collects the text of blocks that have an id."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, str] = {}
        self._open: tuple[str, str] | None = None
        self._parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self._parts.append(" ")
        name = dict(attrs).get("id")
        if tag in _BLOCKS and name:
            self._open, self._parts = (tag, name), []

    def handle_endtag(self, tag: str) -> None:
        if self._open is not None and tag == self._open[0]:
            self.found.setdefault(self._open[1], " ".join("".join(self._parts).split()))
            self._open = None

    def handle_data(self, data: str) -> None:
        self._parts.append(data)


def paragraphs(page: Path) -> dict[str, str]:
    """Id -> text of a page's paragraphs and headings."""
    parser = _Paragraphs()
    parser.feed(page.read_text(encoding="utf-8", errors="replace"))
    parser.close()
    return parser.found


def read_help(package: Path, language: str) -> Iterator[Example]:
    """Paragraphs in English and another language; those that read alike on both sides, or look
    like code or menu paths, are left out.

    Args:
        package: where the Debian packages were unpacked.
        language: such as ``de``.

    Raises:
        StkError: no pages in a language.
    """
    roots = [package / PAGES / name / "text" for name in ("en-US", language)]
    for root in roots:
        if not root.is_dir():
            raise StkError("no pages of help there", file=root, mend="run the stage fetch")
    for page in sorted(roots[0].rglob("*.html")):
        path = page.relative_to(roots[0])
        other = roots[1] / path
        if not other.is_file():
            continue
        english, translated = paragraphs(page), paragraphs(other)
        for name, text in english.items():
            found = translated.get(name, "")
            if min(len(text.split()), len(found.split())) < _LEAST or _is_code(text):
                continue
            if found == text:  # not translated yet, as half of the Russian pages
                continue
            yield Example(
                id=f"help-{language}-{path.with_suffix('')}-{name}",
                src_text=text,
                src_lang="en",
                tgt_text=found,
                tgt_lang=language,
                doc=f"help/{path.with_suffix('')}",
            )


def _is_code(text: str) -> bool:
    """Whether more than a seventh of the characters are neither letters nor usual punctuation."""
    odd = sum(not (c.isalpha() or c.isspace() or c in ".,;:!?'\"()-") for c in text)
    return odd * 7 > len(text)
