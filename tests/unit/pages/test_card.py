"""A card as HTML: Markdown with nothing in it that runs or loads."""

from __future__ import annotations

import pytest

from adapter_registry.api.pages.card import rendered


def test_markdown_becomes_html():
    made = rendered("# Title\n\n**bold** `code` ~~old~~\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx\n```")
    for part in ("<h1>Title</h1>", "<strong>bold</strong>", "<code>code</code>", "<td>2</td>", "<pre>"):
        assert part in made


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<iframe src='https://evil.example'></iframe>",
        "<style>body{display:none}</style>",
        "<svg onload=alert(1)>",
        "<a href='javascript:alert(1)' onclick='x'>x</a>",
        "<form action='https://evil.example'><input></form>",
    ],
)
def test_raw_html_is_text(text):
    made = rendered(text)
    assert "&lt;" in made
    assert "<" + text[1:5] not in made


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "vbscript:x", "JaVaScRiPt:alert(1)"])
def test_a_link_leads_to_the_web_or_to_mail_only(address):
    assert "href" not in rendered(f"[click]({address})")


def test_a_link_tells_the_other_site_nothing():
    made = rendered("[paper](https://example.org 'the paper')")
    assert 'href="https://example.org"' in made
    assert 'rel="nofollow noopener noreferrer"' in made


def test_images_are_left_out_as_they_would_tell_another_server_who_reads():
    assert "<img" not in rendered("![pixel](https://evil.example/pixel.png)")


class TestComments:
    def test_what_a_template_tells_its_author_is_not_shown(self):
        made = rendered("<!-- Provide a\nsummary. -->\n\n# Title\n<!-- one line -->\ntext <!-- in it -->")
        assert "summary" not in made
        assert "one line" not in made
        assert "<h1>Title</h1>" in made
        assert "&lt;!-- in it --&gt;" in made

    @pytest.mark.parametrize("fence", ["```", "~~~"])
    def test_in_fenced_code_they_are_code(self, fence):
        made = rendered(f"{fence}html\n<!-- kept -->\n{fence}\n<!-- gone -->\nafter")
        assert "kept" in made
        assert "gone" not in made
        assert "after" in made
