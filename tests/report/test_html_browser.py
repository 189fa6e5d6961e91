"""The page in a real browser: at a phone's, a tablet's and a desk's width, in light and in dark."""

import re
import shutil

import pytest
from report import sample

from numprune_export.report.html.page import render

WIDTHS = (360, 768, 1280)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium():
    program = next((executable for name in NAMES if (executable := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium is installed: `apt install chromium`")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as play:
        # Chromium's own sandbox needs what a container often withholds; the page is our own file.
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["decoder", "encoder"])
def file(request, tmp_path_factory):
    report = sample.report() if request.param == "decoder" else sample.encoder()
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


@pytest.fixture
def visit(chromium, file):
    """Open the page, without scripts; what goes wrong or out is written down."""
    opened = []

    def visit(**settings):
        context = chromium.new_context(java_script_enabled=False, **settings)
        page = context.new_page()
        opened.append((context, said := []))
        page.on("request", lambda request: said.append(f"request {request.url}"))
        page.on("console", lambda message: said.append(f"console {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error {error}"))
        page.goto(file.as_uri())
        return page

    yield visit
    for context, said in opened:
        context.close()
        assert said == [f"request {file.as_uri()}"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_its_text_shows(visit, width, scheme):
    page = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)
    scroll, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert scroll <= inner == width
    for text in ("At a glance", "Quality", "Environment", "Recipe"):
        assert page.get_by_role("heading", name=text, exact=True, level=2).is_visible()
    assert page.locator(".verdict").inner_text().startswith("23.")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark))) < 150) is (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_are_drawn_in_the_schemes_colours_and_large_enough_to_read(visit, scheme):
    page = visit(viewport={"width": 360, "height": 800}, color_scheme=scheme)
    pictures = page.evaluate(
        """[...document.querySelectorAll("figure svg")].map(svg => {
            const box = svg.getBoundingClientRect();
            const sizes = [...svg.querySelectorAll("text")].map(
                one => parseFloat(getComputedStyle(one).fontSize) * box.width / 340);
            const text = getComputedStyle(svg.querySelector("text")).fill;
            return [box.width, box.height, Math.min(...sizes), text];
        })"""
    )
    assert len(pictures) >= 5
    for width, height, smallest, ink in pictures:
        assert 300 <= width <= 360
        assert height >= 30
        assert smallest >= 10
        assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 400) is (scheme == "dark")


def test_no_text_of_a_picture_is_cut_off(visit):
    page = visit(viewport={"width": 1280, "height": 800})
    outside = page.evaluate(
        """[...document.querySelectorAll("figure svg")].flatMap(svg => {
            const box = svg.getBoundingClientRect();
            return [...svg.querySelectorAll("text")].filter(one => {
                const own = one.getBoundingClientRect();
                return own.left < box.left - 1 || own.right > box.right + 1
                    || own.top < box.top - 1 || own.bottom > box.bottom + 1;
            }).map(one => one.textContent);
        })"""
    )
    assert outside == []


def test_folded_tables_open_without_a_script(visit):
    page = visit(viewport={"width": 768, "height": 800})
    folded = page.locator("details").first
    inside = folded.locator("li, td").first
    assert not inside.is_visible()
    folded.locator("summary").click()
    assert inside.is_visible()


def test_on_paper_nothing_is_folded_and_the_ground_is_white(visit):
    page = visit(viewport={"width": 794, "height": 1123}, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    heights = page.evaluate(
        """[...document.querySelectorAll("details")].map(one => one.getBoundingClientRect().height)"""
    )
    assert heights
    assert min(heights) > 15
    assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_the_keyboard_reaches_the_report_first(visit):
    page = visit(viewport={"width": 768, "height": 800})
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
