"""The page in a real browser: by mouse, by keyboard, by paste, on a phone; no request leaves for elsewhere.

With EVERLEARN_PICTURES=FOLDER the tests leave pictures of what they saw, to be looked at.
"""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import everlearn
from everlearn.serving import app
from tests.serving.chromium import PROGRAM, Browser, browsing
from tests.serving.conftest import Wait, encoded, picture, serving

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs chromium")

PNG = base64.b64encode(encoded(picture("blue", (60, 40)))).decode()
TRANSFER = f"""
const bytes = Uint8Array.from(atob("{PNG}"), sign => sign.charCodeAt(0)), moved = new DataTransfer();
moved.items.add(new File([bytes], "flag.png", {{ type: "image/png" }}));
"""
CARDS = "document.querySelectorAll('.card h2').length"


@pytest.fixture(scope="module")
def page(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with serving(app(original)) as port, browsing(tmp_path_factory.mktemp("profile")) as browser:
        browser.call("Page.navigate", url=f"http://127.0.0.1:{port}/")  # which answers once the old page is gone
        yield browser


@pytest.fixture(autouse=True)
def fresh(page: Browser, wait: Wait) -> Iterator[None]:
    page.size(1200, 800, False)
    page.events.clear()
    page.call("Page.reload")
    wait(lambda: page.run("document.readyState") == "complete" and "knows" in page.run("document.body.innerText"))
    yield
    assert page.complaints() == []


def keep(page: Browser, name: str) -> None:
    if folder := os.environ.get("EVERLEARN_PICTURES"):
        page.picture(Path(folder) / f"{name}.png")


def answered(original: Path, colour: str) -> Any:
    """What the learner says."""
    return everlearn.open(original).predict(picture(colour, (60, 40)))[0]


def percent(p: float) -> str:
    """As the page writes it."""
    return f"{100 * p:.{0 if p >= 0.9995 or p < 0.0005 else 1}f} %"


def drop(page: Browser) -> None:
    page.run(f"{{ {TRANSFER} document.body.dispatchEvent(new DragEvent('drop', "
             "{ dataTransfer: moved, bubbles: true, cancelable: true })); }")  # fmt: skip


def test_a_dropped_image_is_answered_by_each_task(page: Browser, wait: Wait, original: Path) -> None:
    drop(page)
    wait(lambda: page.run(CARDS) == 1)
    one = answered(original, "blue")
    title = page.run("document.querySelector('.card h2').innerText")
    assert title == f"{'Perhaps ' if one.sure < 0.1 else ''}{one.label} ({one.task}), {percent(one.probability)}"
    tasks = page.run("[...document.querySelectorAll('.task h3')].map(one => one.innerText)")
    assert sorted(tasks) == ["flags", "fruit"]
    assert page.run("document.querySelectorAll('.task.first').length") == (one.sure >= 0.1)
    rows = page.run("[...document.querySelectorAll('.task')].map(one => one.querySelectorAll('dd').length)")
    assert sorted(rows) == [2, 3]
    widths = page.run("[...document.querySelectorAll('dt > span')].map(one => one.offsetWidth)")
    assert max(widths) > 4 * min(widths), "bars are as long as the probabilities"
    said = page.run("document.getElementById('said').innerText")
    assert said == f"flag.png: {title}", "told to those who do not see"
    assert page.run("document.querySelector('.card img').naturalWidth") == 60
    keep(page, "desktop")


def test_a_pasted_image(page: Browser, wait: Wait) -> None:
    page.run(f"{{ {TRANSFER} document.body.dispatchEvent(new ClipboardEvent('paste', "
             "{ clipboardData: moved, bubbles: true })); }")  # fmt: skip
    wait(lambda: page.run(CARDS) == 1)
    assert "blue" in page.run("document.querySelector('.card').innerText")


def test_by_keyboard_alone(page: Browser, wait: Wait, tmp_path: Path) -> None:
    page.key("Tab", 9)
    assert page.run("document.activeElement.id") == "file", "the first stop"
    style = page.run("(s => [s.outlineStyle, s.outlineWidth])(getComputedStyle(document.getElementById('drop')))")
    assert style == ["solid", "3px"], "one sees where one is"
    keep(page, "focus")
    for place, colour in enumerate(("red", "yellow", "green")):
        (tmp_path / f"{place}.png").write_bytes(encoded(picture(colour)))
    (tmp_path / "3.png").write_bytes(b"no image")
    files = [str(tmp_path / f"{place}.png") for place in range(4)]
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", files=files, nodeId=node)
    wait(lambda: page.run(CARDS) == 4)
    wait(lambda: page.run("document.getElementById('said').innerText") == "4 images are answered.")
    titles = page.run("[...document.querySelectorAll('.card h2')].map(one => one.innerText)")
    assert titles[0] == "No answer", "the last of them is on top; it does not spoil the others"
    assert "no image of a known format" in page.run("document.querySelector('.card').innerText")
    assert "yellow" in page.run("document.querySelectorAll('.card')[2].innerText")
    refused = [text for text in page.complaints() if "415" in text]
    assert len(refused) == 1
    page.events.clear()  # the browser's own note of the refusal
    keep(page, "several")


def test_on_a_phone(page: Browser, wait: Wait) -> None:
    page.size(420, 800, True)
    drop(page)
    wait(lambda: page.run(CARDS) == 1)
    assert page.run("document.documentElement.scrollWidth") <= 420, "nothing is cut off at the side"
    small = page.run(
        "[...document.querySelectorAll('main *')].filter(one => one.offsetWidth && "
        "parseFloat(getComputedStyle(one).fontSize) < 13).map(one => one.tagName)"
    )
    assert small == [], "legible"
    assert page.run("document.getElementById('drop').offsetHeight") >= 44, "large enough for a finger"
    keep(page, "phone")


def test_names_are_words_and_no_markup(page: Browser, wait: Wait) -> None:
    name = json.dumps("<img src=x onerror=alert(1)>.png")
    page.run(f"{{ {TRANSFER.replace(chr(34) + 'flag.png' + chr(34), name)} document.body.dispatchEvent(new DragEvent("
             "'drop', { dataTransfer: moved, bubbles: true, cancelable: true })); }")  # fmt: skip
    wait(lambda: page.run(CARDS) == 1)
    assert page.run("document.querySelector('figcaption').innerText") == json.loads(name)
    assert page.run("document.querySelectorAll('.card img').length") == 1
