"""Markdown to one HTML page that needs no other file and no network."""

import base64
import html
import re
from pathlib import Path

from markdown_it import MarkdownIt

_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}

_STYLE = """
body { max-width: 58rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.5;
       font-family: system-ui, sans-serif; color: #1a1a1a; background: #fff }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0 }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: left;
         font-variant-numeric: tabular-nums; vertical-align: top }
th { border-bottom: 2px solid #888 } td { white-space: nowrap } td:nth-child(4):last-child,
td:nth-child(2) { white-space: normal } img { width: 100%; max-width: 52rem; height: auto }
code { font-size: .9em; background: #f3f3f3; padding: 0 .2em; overflow-wrap: anywhere }
blockquote { margin: 1rem 0; padding: .2rem 1rem; border-left: 4px solid #d55e00;
             background: #fff6ef }
"""


def render(title: str, markdown: str, folder: Path) -> str:
    """The page of `markdown`; pictures that it names, relative to `folder`, are put into it.

    Raises:
        FileNotFoundError: a picture is not there.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = re.sub(r'src="([^"]+)"', lambda found: f'src="{_inline(folder / found[1])}"', body)
    body = body.replace("<table>", '<div class="wide"><table>')
    body = body.replace("</table>", "</table></div>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title, quote=False)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )


def literal(text: str) -> str:
    """Markdown that shows `text` as it stands."""
    return re.sub(r"([\\`*_{}\[\]<>#!|&~])", r"\\\1", text)


def _inline(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_TYPES[path.suffix]};base64,{content}"
