"""A small stand-in for what recipes/bible_mt fetches: a database, pages of help, dictionaries."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

WORDS = {
    "en": "the house king water man good big day went sheep city bread",
    "de": "das haus könig wasser mann gut groß tag ging schafe stadt brot",
    "fr": "la maison roi l'eau homme bon grand jour allait brebis ville pain",
    "es": "la casa rey agua hombre bueno grande día iba ovejas ciudad panes",
    "it": "gli edificio sovrano acque uomo buono enorme giorno andava pecore città pane",
    "tl": "ang bahay hari tubig tao mabuti malaki araw naparoon tupa bayan tinapay",
    "ru": "этот дом царь вода человек хороший большой день шёл овцы город хлеб",
    "ro": "acea casă împărat apă om bun mare zi mergea oile cetate pâine",
}
VERSIONS = {
    "4": "en", "k": "en", "3": "en", "s": "de", "e": "de", "l": "fr", "5": "fr",
    "v": "es", "d": "it", "r": "ru", "u": "ro", "f": "tl",
}  # fmt: skip
CHAPTERS, VERSES = 10, 40


def write_bible(path: Path) -> None:
    """A database of 10 chapters; the same words in the same order in every version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE bible (id INTEGER, bbName TEXT, bNumber INTEGER, cNumber INTEGER, "
        "vNumber INTEGER, vText TEXT)"
    )
    rng = np.random.default_rng(1)
    for chapter in range(1, CHAPTERS + 1):
        for verse in range(1, VERSES + 1):
            picks = rng.integers(0, 12, size=int(rng.integers(5, 12)))
            for key, language in VERSIONS.items():
                words = WORDS[language].split()
                text = " ".join(words[int(i)] for i in picks).capitalize() + "."
                if key != "4" and len(picks) % 4 == 0:
                    text = f"({chapter}:{verse}) {text}"  # a number of another counting
                row = (key, 1, chapter, verse, text)
                connection.execute("INSERT INTO bible VALUES (0, ?, ?, ?, ?, ?)", row)
    connection.commit()
    connection.close()


def write_packages(root: Path) -> None:
    """Unpacked Debian packages: help in five languages, everyday sentences, no dictionaries."""
    rng = np.random.default_rng(2)
    picks = [rng.integers(0, 12, size=8) for _ in range(60)]
    for name in ("en-US", "de", "fr", "es", "ru"):
        words = WORDS[name[:2]].split()
        texts = [" ".join(words[int(i)] for i in pick).capitalize() + "." for pick in picks]
        body = "".join(f'<p id="par_{i}">{text}</p>\n' for i, text in enumerate(texts))
        menu = '<p id="menu">File - Open</p><p id="code">x = 1 + (2 * 3) - f(4)/2</p>'
        menu += '<p id="same">This was translated into no language.</p>'
        page = root / f"usr/share/libreoffice/help/{name}/text/shared/page.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"<html><body><h1>no id</h1>{body}{menu}</body></html>", "utf-8")
    sentences = root / "usr/share/trans/de-en"
    sentences.parent.mkdir(parents=True)
    sentences.write_text(
        "# Version :: 1\n"
        "Haus {n} | Das Haus ist groß.; Gross ist es. | jdn. sehen "
        ":: house | The house is big. (of a building) | to see sb.\n"
        "Brot {n} :: bread\n",
        encoding="utf-8",
    )
