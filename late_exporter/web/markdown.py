"""Markdown as HTML, as far as the runbooks use it: headings, paragraphs, lists, code and links.

Everything else is escaped text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import escape
from typing import TypeAlias

FENCE = "```"
HEADING = re.compile(r"(#{1,4}) +(.+)")
INLINE = re.compile(r"`([^`]+)`|\[([^\]]+)\]\(([^)\s]+)\)")
"""Code, or the text and the target of a link."""

LinkTarget: TypeAlias = Callable[[str], str]
"""Returns the address of a link by its target; empty if the link leads nowhere."""


def render_markdown(text: str, link_target: LinkTarget) -> str:
    """Return a text as HTML, whose first level of headings is ``h2``."""
    return "\n".join(_blocks(text.splitlines(), link_target))


def _blocks(lines: list[str], link_target: LinkTarget) -> Iterator[str]:
    at = 0
    while at < len(lines):
        line = lines[at]
        end = at + 1
        heading = HEADING.fullmatch(line)
        if line.startswith(FENCE):
            end = _find(lines, end, lambda each: each.startswith(FENCE))
            code = "\n".join(lines[at + 1 : end])
            yield f"<pre><code>{escape(code)}</code></pre>"
            end += 1
        elif heading:
            level = len(heading[1]) + 1
            yield f"<h{level}>{_inline(heading[2], link_target)}</h{level}>"
        elif line.startswith("- "):
            end = _find(lines, end, lambda each: not each.startswith(("- ", "  ")))
            items = "\n".join(lines[at:end]).removeprefix("- ").split("\n- ")
            texts = [_inline(" ".join(each.split()), link_target) for each in items]
            yield f"<ul>{''.join(f'<li>{each}</li>' for each in texts)}</ul>"
        elif line.strip():
            end = _find(lines, end, _ends_paragraph)
            yield f"<p>{_inline(' '.join(lines[at:end]), link_target)}</p>"
        at = end


def _find(lines: list[str], start: int, is_end: Callable[[str], bool]) -> int:
    """Return the index of the first line from some index on that ends a block, or of the end."""
    for at in range(start, len(lines)):
        if is_end(lines[at]):
            return at
    return len(lines)


def _ends_paragraph(line: str) -> bool:
    return not line.strip() or line.startswith((FENCE, "- ", "#"))


def _inline(text: str, link_target: LinkTarget) -> str:
    """Return a text with code and links, of which those without a target are only text."""
    parts: list[str] = []
    at = 0
    for match in INLINE.finditer(text):
        parts.append(escape(text[at : match.start()]))
        code, label, target = match.groups()
        address = link_target(target) if target else ""
        if code:
            parts.append(f"<code>{escape(code)}</code>")
        elif address:
            parts.append(f'<a href="{escape(address)}">{_inline(label, link_target)}</a>')
        else:
            parts.append(_inline(label, link_target))
        at = match.end()
    return "".join([*parts, escape(text[at:])])
