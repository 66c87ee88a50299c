"""A page as a list of blocks, written once and shown twice: as Markdown, and as HTML that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from . import svg

_STYLE = (
    ":root{color-scheme:light dark;--ground:#fff;--text:#1c1e21;--line:#d5d9de;--soft:#f3f5f7}"
    "@media (prefers-color-scheme:dark){:root{--ground:#16181c;--text:#e6e6e6;--line:#3a3f47;--soft:#20242a}}"
    "body{background:var(--ground);color:var(--text);font:16px/1.5 system-ui,sans-serif;margin:0 auto;"
    "max-width:70rem;padding:1rem}h1{font-size:1.5rem;line-height:1.25}h2{font-size:1.15rem;margin-top:2rem}"
    ".lead{background:var(--soft);border-left:4px solid #1f5fbf;font-size:1.1rem;padding:.7rem 1rem}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}"
    "th,td{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:right;white-space:nowrap}"
    "th{vertical-align:bottom;white-space:normal}"
    "th:first-child,td:first-child{text-align:left}.text td,.text th{text-align:left;white-space:normal}"
    ".figures{display:grid;gap:.5rem 1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr))}"
    ".figures svg{height:auto;width:100%}.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0}"
    "code{overflow-wrap:anywhere}"
)


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; the lead stands out."""

    text: str
    lead: bool = False


@dataclass(frozen=True)
class Points:
    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of cells; of words, they are set to the left and may break."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False


@dataclass(frozen=True)
class Figures:
    """Panels with the rows' names; beside Markdown they are a file."""

    file: str
    words: str
    names: Sequence[str]
    panels: Sequence[svg.Figure]


Block = Heading | Text | Points | Table | Figures


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return the page as Markdown."""
    return "\n\n".join([f"# {_plain(title)}", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {_plain(block.text)}"
    if isinstance(block, Text):
        return f"**{_plain(block.text)}**" if block.lead else _plain(block.text)
    if isinstance(block, Points):
        return "\n".join(f"- {_plain(text)}" for text in block.texts)
    if isinstance(block, Figures):
        return f"![{_plain(block.words)}]({block.file})\n\n{_plain(block.words)}"
    side = "---" if block.words else "---:"
    lines = [block.header, ["---", *[side] * (len(block.header) - 1)], *block.rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """Return a text in one line, in which Markdown finds no cell's and no tag's end."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def html(title: str, blocks: Sequence[Block]) -> str:
    """Return the page as one HTML file, with its pictures and its style in it."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{svg.STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(map(_html, blocks))
        + "\n</body></html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Text):
        return f'<p class="lead">{escape(block.text)}</p>' if block.lead else f"<p>{escape(block.text)}</p>"
    if isinstance(block, Points):
        return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in block.texts)}</ul>"
    if isinstance(block, Figures):
        panels = "".join(panel.inline() for panel in block.panels)
        return f'{svg.legend(block.names)}<div class="figures">{panels}</div><p>{escape(block.words)}</p>'
    head = "".join(f"<th>{escape(cell)}</th>" for cell in block.header)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in block.rows)
    kind = "wide text" if block.words else "wide"
    return f'<div class="{kind}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
