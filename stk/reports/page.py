"""A page of tables and pictures in one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from stk.data.atomic import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem }
tr { border-bottom: 1px solid #ccc }
img { max-width: 100% } figure { margin: 1.5rem 0 } figcaption { color: #555 }
"""


@dataclass(frozen=True)
class Table:
    """Rows of text under a head."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A figure; ``name`` is that of its PNG file beside the page, without ending."""

    name: str
    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str


Part = Table | Picture | Note


def write_page(path: str | Path, title: str, parts: Sequence[Part]) -> None:
    """Write the page, and every picture also as a PNG file beside it; each whole or not at all.

    Args:
        path: the HTML file.
        title: its heading.
        parts: in order.
    """
    path = Path(path)
    body = []
    for part in parts:
        if isinstance(part, Picture):
            data = png(part.figure)
            write_bytes(path.parent / f"{part.name}.png", data)
            body.append(_picture(part, data))
        elif isinstance(part, Table):
            body.append(_table(part))
        else:
            body.append(f"<p>{html.escape(part.text)}</p>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    text = f"<!doctype html>\n<html lang=en><head>{head}</head>\n<body>\n"
    text += f"<h1>{html.escape(title)}</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    write_text(path, text)


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def save_picture(figure: Figure, path: str | Path) -> None:
    """Write a figure, whole or not at all; the file's ending says in which format."""
    file = BytesIO()
    figure.savefig(file, format=Path(path).suffix.lstrip(".").lower(), dpi=130)
    write_bytes(Path(path), file.getvalue())


def _picture(part: Picture, data: bytes) -> str:
    coded = base64.b64encode(data).decode("ascii")
    title, caption = html.escape(part.title), html.escape(part.caption)
    image = f'<img alt="{title}" src="data:image/png;base64,{coded}">'
    return f"<h2>{title}</h2>\n<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _table(part: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in part.head)
    rows = [
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in part.rows
    ]
    return (
        f"<h2>{html.escape(part.title)}</h2>\n<table><thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(rows)
        + "</tbody></table>"
    )
