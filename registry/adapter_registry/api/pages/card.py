"""A card as HTML: Markdown that somebody pushed, with nothing in it that runs or loads anything."""

from __future__ import annotations

from functools import cache

import nh3
from markdown_it import MarkdownIt

_TAGS = {
    *("a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre"),
    *("s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
_ATTRIBUTES: dict[str, set[str]] = {"a": {"href", "title"}, "ol": {"start"}}


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])


def rendered(text: str) -> str:
    """The HTML of a card.

    Raw HTML in it is shown as text, and comments that begin a line are left out; links open elsewhere and tell
    nothing; images are left out. The cleaner is the second lock: it lets through these elements and nothing else,
    whatever the first makes.
    """
    return nh3.clean(
        _parser().render(_without_comments(text)),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer",
    )


def _without_comments(text: str) -> str:
    """Without the comments that begin a line, to the end of the line that they end on; those in fenced code stay."""
    kept, fence, open_ = [], "", False
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        begins = not fence and not open_ and bare.startswith("<!--")
        if begins or open_:
            open_ = "-->" not in line
            continue
        if bare.startswith(fence or ("```", "~~~")):
            fence = "" if fence else bare[:3]
        kept.append(line)
    return "".join(kept)
