import base64
import hashlib
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from fucina.factory.report.page import write_report

ATTACK = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        self.texts[inside] = self.texts.get(inside, "") + data


@pytest.fixture(scope="module")
def html(finished, tmp_path_factory) -> str:
    copy = shutil.copytree(finished.path, tmp_path_factory.mktemp("page") / "run")
    return write_report(copy).read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere(html):
    page = Page(html)
    loads = [(tag, name) for tag, attrs in page.tags for name in attrs if name in {"src", "srcset", "action", "data"}]
    links = [attrs["href"] for tag, attrs in page.tags if "href" in attrs]
    assert loads == []
    assert all(str(link).startswith("#") for link in links)
    assert not re.search(r"@import|url\(|https?://", page.texts["style"] + page.texts["script"])


def test_every_link_has_a_target(html):
    page = Page(html)
    ids = {attrs.get("id") for _, attrs in page.tags}
    assert {str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"} <= ids


def test_the_page_says_what_happened(html):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    for part in (
        "9 records in, 5 prompts left, 4 data sets", "9 = 5 left + 4 dropped", "−1 not JSON", "−1 duplicate",
        "100% of the chosen answers are from “teacher”", "perplexity.nll", "of 5 pairs", "5 selected prompts to read",
        "The answers of teacher (recorded-good) and student (recorded-weak) were not generated in this run",
        "nano-a was made to show that the machinery works",
        "Quattordici endecasillabi", "4 prompts gave 4 train + 0 test rows", "1,200",
    ):  # fmt: skip
        assert part in text, part


def test_the_same_run_gives_the_same_bytes(html, finished, tmp_path):
    copy = shutil.copytree(finished.path, tmp_path / "run")
    assert write_report(copy).read_text(encoding="utf-8") == html


def test_texts_of_the_run_are_inert(make, asked):
    run = make([asked(ATTACK, f"Buona {ATTACK}.", f"No {ATTACK}", ATTACK)], description=ATTACK)
    page = Page(write_report(run.path).read_text(encoding="utf-8"))
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert len(scripts) == 1
    assert "broken" not in page.texts["script"]
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert ATTACK in page.texts["p"], "the text itself is shown"


def test_the_policy_allows_the_pages_own_script_and_no_other(html):
    page = Page(html)
    [policy] = [str(attrs["content"]) for tag, attrs in page.tags if attrs.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(page.texts["script"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_a_run_that_has_just_begun_has_a_page(builder):
    text = write_report(builder.run.path).read_text(encoding="utf-8")
    assert "0 records in, 0 prompts left" in text
    assert 'id="examples"' not in text


@pytest.mark.browser
def test_the_filter_works_and_attacks_do_not(make, asked, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    run = make([asked(ATTACK, "Buona.", "No", "a"), asked("Che ore sono?", "Le tre.", "Boh", "b")])
    page = write_report(run.path)
    # A script of the page's own policy cannot be added, so the count that it writes is what shows that it ran.
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=os.environ)
    assert "<title>prova · Fucina run report</title>" in done.stdout
    assert ">2 of 2</output>" in done.stdout
