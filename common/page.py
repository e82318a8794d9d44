"""An HTML page that needs nothing else: its style is in it, its pictures too, and there is no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from collections.abc import Sequence as List
from html import escape
from pathlib import Path

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1b1f24; --quiet: #57606a; --paper: #fff; --line: #d5d9de; --soft: #f3f4f6;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --quiet: #a0a8b2; --paper: #15181c; --line: #3a4048; --soft: #20252b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 0.5rem; padding-top: 0.5rem; border-top: 1px solid var(--line); }
p { margin: 0.5rem 0; max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; margin: 0.5rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0.75rem 0; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0.25rem 0; }
th, td { padding: 0.2rem 0.5rem; text-align: right; white-space: nowrap; }
tr { border-bottom: 1px solid var(--line); }
thead th { background: var(--soft); vertical-align: bottom; font-weight: 600; }
thead th[colspan] { text-align: left; white-space: normal; min-width: 8rem; }
thead th[colspan='1'] { max-width: 11rem; min-width: 0; }
thead th[colspan='2'] { min-width: 11rem; }
th:first-child { text-align: left; }
tbody th { font-weight: 400; }
td.group, th.group { border-left: 2px solid var(--line); }
figure { margin: 0.75rem 0; }
figcaption { font-size: 0.85rem; color: var(--quiet); }
img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line); }
.beside { display: grid; gap: 0 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.gallery { columns: 26rem 2; column-gap: 1.5rem; margin-top: 0.75rem; }
.gallery figure { break-inside: avoid; margin: 0 auto; padding-bottom: 1rem; max-width: 34rem; }
.wide img { min-width: 44rem; max-width: 58rem; }
@media (max-width: 30rem) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 0.5rem; }
}
@media print {
  :root { --ink: #000; --quiet: #444; --paper: #fff; --line: #bbb; --soft: #eee; }
  html { font-size: 11px; }
  body { max-width: none; padding: 0; font-size: 1rem; }
  h2, p { break-after: avoid; }
  p, figure, table { break-inside: avoid; }
  .scroll { overflow: visible; }
  .beside { grid-template-columns: 1fr 1fr; }
  .gallery { columns: 2; }
  .gallery img { width: auto; max-width: 100%; max-height: 21cm; }
  th, td { padding: 0.1rem 0.3rem; }
  .wide img { min-width: 0; }
}
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load for the page: nothing but what is in it."""


def page(title: str, parts: List[str]) -> str:
    """A whole page of parts that are HTML already."""
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def section(title: str, *parts: str) -> str:
    """A headed part of a page, of parts that are HTML already."""
    return "\n".join([f"<section>\n<h2>{escape(title)}</h2>", *parts, "</section>"])


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def beside(*parts: str) -> str:
    """Parts next to each other where there is room, under each other where there is none."""
    return "\n".join(['<div class="beside">', *(f"<div>{part}</div>" for part in parts), "</div>"])


def definitions(texts: Mapping[str, str]) -> str:
    """Names and the text of each, both plain."""
    rows = [f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in texts.items()]
    return "\n".join(["<dl>", *rows, "</dl>"])


def table(
    caption: str, head: List[str], rows: List[List[str]], groups: Mapping[str, int] | None = None
) -> str:
    """A table of plain texts, the first column of which names the rows.

    Args:
        caption: What the table shows.
        head: Names of the columns.
        rows: Texts of each row, as many as there are columns.
        groups: Headings over the columns and how many columns each spans, in order; together all of them.
    """
    starts, column = set(), 0
    for size in (groups or {}).values():
        starts.add(column)
        column += size
    marks = [' class="group"' if column in starts - {0} else "" for column in range(len(head))]
    lines = [f'<div class="scroll"><table><caption>{escape(caption)}</caption>', "<thead>"]
    if groups:
        spans = [f'<th colspan="{size}">{escape(name)}</th>' for name, size in groups.items()]
        lines.append(f"<tr>{''.join(spans)}</tr>")
    heads = [f'<th scope="col"{mark}>{escape(name)}</th>' for name, mark in zip(head, marks, strict=True)]
    lines += [f"<tr>{''.join(heads)}</tr>", "</thead>", "<tbody>"]
    for name, *cells in rows:
        texts = [f"<td{mark}>{escape(cell)}</td>" for cell, mark in zip(cells, marks[1:], strict=True)]
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(texts)}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def picture(path: Path, text: str, caption: str = "") -> str:
    """A PNG, within the page, with a plain text in its stead for who cannot see it, and one under it."""
    content = base64.b64encode(path.read_bytes()).decode()
    under = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img alt="{escape(text)}" src="data:image/png;base64,{content}">{under}</figure>'


def gallery(*pictures: str) -> str:
    """Pictures in two columns where there is room."""
    return "\n".join(['<div class="gallery">', *pictures, "</div>"])


def wide(picture: str) -> str:
    """A picture that keeps a readable size on a narrow screen, where it can be moved from side to side."""
    return f'<div class="wide scroll">{picture}</div>'
