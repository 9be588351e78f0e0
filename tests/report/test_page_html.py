"""The report's page in a browser: nothing is logged, nothing is asked for, and it can be sorted, hovered over and saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import FOUND, Browser
from page_parts import PRICES, ledger, make_run, make_runs

from aplysia.report.page import html
from aplysia.report.page_command import Request, report
from aplysia.report.page_costs import Energy, Joules
from aplysia.report.page_rows import collect

EVIL = '<script>window.hurt=1</script><img src=x onerror="window.hurt=1">'
WIDTHS = (390, 1400)


def test_what_comes_from_files_is_escaped(tmp_path):
    make_run(tmp_path / "a", seed=0, accuracy=0.9, name=EVIL, rule=EVIL, caveat=EVIL)
    make_run(tmp_path / "b", seed=0, accuracy=0.8, name="b", costs=ledger(memory=[{"kind": EVIL, "bytes": 7}]))
    text = html(collect([tmp_path], title=EVIL))
    assert text.count("<script>") == 1  # ours
    assert "<img" not in text
    assert text.count("&lt;script&gt;") > 5


def test_page_names_no_address_and_no_folder(tmp_path):
    text = html(collect([make_runs(tmp_path)]))
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) == {"http://www.w3.org/2000/svg"}
    assert str(tmp_path) not in text
    assert "/secret" not in text  # the command of a run may name folders


def test_sections_stand_only_where_something_is_known(tmp_path):
    make_run(tmp_path / "bare" / "a", seed=0, accuracy=0.9)
    bare, full = html(collect([tmp_path / "bare"])), html(collect([make_runs(tmp_path / "full")]))
    for title in ("Cost by phase", "Drift of the feedback weights", "Accuracy against cost"):
        assert f"<h2>{title}</h2>" in full
        assert f"<h2>{title}</h2>" not in bare
    for title in ("Comparison", "Learning curves", "Spike rates", "Provenance"):
        assert f"<h2>{title}</h2>" in bare
    assert "against energy" not in full
    # A figure stands only where rows differ.
    assert "against energy" not in html(collect([tmp_path / "full"], energy=PRICES))
    by_size = Energy("a chip", "made up", lambda found: Joules(1.0 * found["step"][2]["macs"], 0.5, 9e3))
    assert "against energy" in html(collect([tmp_path / "full"], energy=by_size))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    place = make_runs(tmp_path_factory.mktemp("runs"))
    # A long name without a place to break, and a script in it, in a fourth row.
    for seed in range(3):
        rule = f"{EVIL}{'long' * 20}"
        make_run(
            place / f"z-evil-{seed}",
            seed=seed,
            accuracy=0.7 + 0.01 * seed,
            rule=rule,
            moved=500,
            costs=ledger(),
            probes=3,
        )
    (place / "unfinished").mkdir()
    (place / "unfinished" / "recipe.json").write_text("{}")
    report(Request((place,), place / "report.html"))
    return place / "report.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Browser]:
    if FOUND is None:
        pytest.skip("no browser is installed (apt-get install chromium)")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def opened(chromium, page) -> Iterator[Browser]:
    chromium.console.clear()
    chromium.asked.clear()
    chromium.open(page, 1400)
    yield chromium
    assert chromium.console == []
    assert {address.split(":")[0] for address in chromium.asked} <= {"file", "data", "blob"}
    assert {address for address in chromium.asked if address.startswith("file")} == {page.resolve().as_uri()}
    assert chromium.run("window.hurt") is None


def centre(browser: Browser, query: str) -> tuple[float, float]:
    """Where a thing is seen, after it has been scrolled into the window."""
    browser.run(f"document.querySelector({query!r}).scrollIntoView({{block: 'center'}})")
    # The page closes its tip when it scrolls, which is told a frame later.
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    box = browser.run(
        f"(() => {{ const b = document.querySelector({query!r}).getBoundingClientRect();"
        " return [b.left + b.width / 2, b.top + b.height / 2]; })()"
    )
    return box[0], box[1]


def column(browser: Browser, number: int) -> list[str]:
    rows = "[...document.querySelectorAll('#comparison tbody tr')]"
    return browser.run(f"{rows}.map((row) => row.cells[{number}].textContent)")


TIP = "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, *WIDTHS])
def test_nothing_is_wider_than_the_screen(opened, page, width, dark):
    opened.open(page, width, dark=dark)
    assert opened.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    inside = "[...document.querySelectorAll('body *')].filter((one) => !one.closest('.scroll, svg, #tip'))"
    assert opened.run(f"{inside}.filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5).length") == 0
    shown = opened.run("[...document.querySelectorAll('svg.wide')].map((one) => one.getClientRects().length > 0)")
    assert set(shown) == {width > 859}


def test_text_stands_out_from_its_ground_in_light_and_dark(opened, page):
    for dark in (False, True):
        opened.open(page, 1400, dark=dark)
        paper = opened.run("getComputedStyle(document.body).backgroundColor")
        for query in ("body", ".words", ".noise", "svg .tick", "thead th"):
            look = "fill" if query.startswith("svg") else "color"
            ink = opened.run(f"getComputedStyle(document.querySelector({query!r}))[{look!r}]")
            assert contrast(ink, paper) >= 4.5, (query, dark)
        for number in range(7):
            colour = opened.run(
                "(() => { const p = document.createElementNS('http://www.w3.org/2000/svg', 'path');"
                f" p.setAttribute('class', 'c{number}'); document.querySelector('svg').append(p);"
                " return getComputedStyle(p).fill; })()"
            )
            assert contrast(colour, paper) >= 2.7, (number, dark)


def contrast(one: str, other: str) -> float:
    """WCAG's ratio."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", WIDTHS)
def test_sorting_by_click(opened, page, width):
    opened.open(page, width)
    before = column(opened, 0)
    head = "#comparison thead th:nth-child(2)"
    assert opened.run(f"document.querySelector('{head}').getAttribute('aria-sort')") is None
    seen = []
    for order in ("descending", "ascending", None):
        opened.click(*centre(opened, f"{head} button"))
        assert opened.run(f"document.querySelector('{head}').getAttribute('aria-sort')") == order
        seen.append([float(cell.split()[0]) for cell in column(opened, 1)])
    assert seen[0] == sorted(seen[0], reverse=True) != seen[2]
    assert seen[1] == seen[0][::-1]
    assert column(opened, 0) == before


def test_sorting_by_keyboard(opened):
    opened.run("document.querySelector('#comparison thead th:nth-child(1) button').focus()")
    opened.key("Enter")
    assert opened.run("document.querySelectorAll('#comparison [aria-sort]').length") == 1
    assert column(opened, 0) == sorted(column(opened, 0))
    opened.key("Tab")
    opened.key("Enter")
    assert opened.run("document.querySelector('#comparison [aria-sort]').cellIndex") == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_hovering_tells_a_row_and_its_numbers(opened, page, width):
    opened.open(page, width)
    seen = "svg.wide" if width > 859 else "svg.narrow"
    opened.move(*centre(opened, f"{seen} .hot[data-row='2'] .mark"))
    told = opened.run(TIP).split("\n")
    assert told[0] == "frozen"
    assert told[1] == "90.20 % ± 0.60 (3)"
    assert "+0.00 pp to the baseline, inside the noise" in told or "-0.00 pp to the baseline, inside the noise" in told
    assert "weight words moved, of backpropagation's: 1/100" in told
    assert opened.run("document.querySelector('#comparison tr.lit').dataset.row") == "2"
    left, right = opened.run("(() => { const b = tip.getBoundingClientRect(); return [b.left, b.right]; })()")
    assert left >= 0
    assert right <= width
    opened.move(2, 2)
    assert opened.run(TIP) == ""


@pytest.mark.parametrize("width", WIDTHS)
def test_arrow_keys_read_a_curve(opened, page, width):
    opened.open(page, width)
    opened.run("document.querySelector('.reader[tabindex=\"0\"]').scrollIntoView({block: 'center'})")
    # Focus by key, as a reader without a mouse has it.
    opened.run(
        "document.querySelector('.reader[tabindex=\"0\"]').closest('figure').querySelector('[data-save=png]').focus()"
    )
    opened.key("Tab")
    assert opened.run(TIP).startswith("symmetric\nepoch 3: 86.87 % ± 0.20 (3)")
    opened.key("ArrowLeft")
    assert opened.run(TIP) == "symmetric\nepoch 2: 85.20 % ± 0.20 (3)"
    opened.key("ArrowDown")
    assert opened.run(TIP).split("\n")[0] == "direct_feedback"
    opened.key("Escape")
    assert opened.run(TIP) == ""


def test_theme_switch(opened):
    grounds = []
    for _ in range(3):
        opened.click(*centre(opened, "#theme"))
        grounds.append(opened.run("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] == grounds[2] != grounds[1]  # light, dark, as the system says: light
    assert opened.run("document.getElementById('theme').textContent") == "theme: auto"


def test_paper_is_white_whatever_the_screen_was(opened, page):
    opened.open(page, 794, dark=True)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    opened.send("Emulation.setEmulatedMedia", media="print", features=features)
    look = opened.run("[getComputedStyle(document.body).backgroundColor, getComputedStyle(theme).display]")
    opened.send("Emulation.setEmulatedMedia", media="", features=[])
    assert look == ["rgb(255, 255, 255)", "none"]


@pytest.mark.parametrize("form", ["svg", "png"])
def test_figures_are_saved_with_their_colours_in_them(opened, form):
    opened.run(
        "window.saved = new Promise((done) => { URL.createObjectURL = (blob) => { done(blob); return 'blob:kept'; };"
        " HTMLAnchorElement.prototype.click = function () { window.called = this.download; }; }); 0"
    )
    opened.run(f"document.querySelector('[data-save={form}]').click()")
    kind, size, start = opened.run(
        "saved.then(async (blob) => [blob.type, blob.size, (await blob.text()).slice(0, 400000)])"
    )
    assert opened.run("new Promise((done) => setTimeout(() => done(window.called), 50))").endswith(f".{form}")
    assert size > 5000
    if form == "png":
        assert kind == "image/png"
        return
    assert kind == "image/svg+xml"
    assert "class=" not in start
    assert "var(" not in start
    assert 'fill="rgb(0, 114, 178)"' in start


def test_unfinished_folder_is_named_at_the_foot(opened):
    assert "left out: unfinished: expected a finished run" in opened.run("document.querySelector('footer').textContent")
