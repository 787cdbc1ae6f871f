"""Markdown to one HTML page that needs no other file and no network.

No table is wider than the window: cells wrap, and in a narrow window a row is a block of lines,
each with the heading of its column before it.
"""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

# A cell of at most so many characters is a number, an interval or a name: it is not broken where
# there is room.
_SHORT = 20

# Paper is about as narrow as a small tablet, but people expect a table there.
_STYLE = """
body { max-width: 76rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.5;
       font-family: system-ui, sans-serif; color: #1a1a1a; background: #fff;
       overflow-wrap: break-word }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
p, ul, blockquote { max-width: 58rem }
img { display: block; width: 100%; max-width: 58rem; height: auto }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0 }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #ddd; text-align: left;
         font-variant-numeric: tabular-nums; vertical-align: top }
table:has(th:nth-child(11)) :is(th, td) { overflow-wrap: anywhere }
th { border-bottom: 2px solid #888; vertical-align: bottom }
code { font-family: ui-monospace, monospace; font-size: .85em; background: #f3f3f3;
       padding: 0 .2em; overflow-wrap: anywhere }
@media (min-width: 75rem) {
  table:not(:has(th:nth-child(11))) td.short { white-space: nowrap }
}
blockquote { margin: 1rem 0; padding: .2rem 1rem; border-left: 4px solid #d55e00;
             background: #fff6ef }
@media screen and (max-width: 50rem) {
  body { margin: 1rem auto }
  thead, td:empty { display: none }
  table, tbody, tr { display: block }
  tr { margin: 0 0 1rem; border-top: 2px solid #888 }
  td { display: flow-root; padding: .2rem 0 .2rem 9.5rem; overflow-wrap: anywhere }
  td::before { content: attr(data-label); float: left; width: 9rem; margin: 0 .5rem 0 -9.5rem;
               font-weight: normal; color: #595959 }
  td:first-child { font-weight: bold } td[data-label=""] { padding-left: 0 }
}
"""


def render(
    title: str, markdown: str, folder: Path, instead: Mapping[str, str] | None = None
) -> str:
    """The page of `markdown`; PNG pictures that it names, relative to `folder`, are put into it.

    Args:
        title: of the page, plain text.
        markdown: CommonMark with tables.
        folder: of the pictures.
        instead: by paragraph of `markdown`, the HTML that the page has in its place.

    Raises:
        FileNotFoundError: a picture is not there.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    _label_cells(tokens)
    body = parser.renderer.render(tokens, parser.options, {})
    body = re.sub(r'src="([^"]+)"', lambda match: f'src="{_inline(folder / match[1])}"', body)
    for paragraph, shown in (instead or {}).items():
        body = body.replace(parser.render(paragraph), shown)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title, quote=False)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )


def escape_markdown(text: str) -> str:
    """Markdown that shows `text` as it stands."""
    return re.sub(r"([\\`*_{}\[\]<>#!|&~])", r"\\\1", text)


def _label_cells(tokens: Sequence[Token]) -> None:
    """Give each cell of a table its column's heading, and let headings break after a `_`."""
    headings: list[str] = []
    column = 0
    for index, token in enumerate(tokens):
        if token.type == "table_open":
            headings = []
        elif token.type == "th_open":
            heading = tokens[index + 1]
            headings.append(heading.content)
            heading.children = [
                part for child in heading.children or [] for part in _allow_breaks(child)
            ]
        elif token.type == "tr_open":
            column = 0
        elif token.type == "td_open":
            token.attrSet("data-label", headings[column])
            if len(tokens[index + 1].content) <= _SHORT:
                token.attrSet("class", "short")
            column += 1


def _allow_breaks(text: Token) -> list[Token]:
    """`text` with a place to break after each `_`, which names of parameters have."""
    parts = [text.copy(content=part) for part in re.split(r"(?<=_)", text.content)]
    between = Token("html_inline", "", 0, content="<wbr>")
    return [token for part in parts for token in (part, between)][:-1]


def _inline(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:image/png;base64,{content}"
