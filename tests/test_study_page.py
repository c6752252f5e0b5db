"""The page of `report study` in a browser: keys, mouse, a closed tab, downloads, and layout."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import PROGRAM, Chromium
from fake_study import IMAGES, METHODS, draw, method_of, read, write

from lightning_derain.cli import main

ALL = len(IMAGES) * 3
"""Comparisons of a participant."""


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return draw(tmp_path)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    with start(tmp_path) as chromium:
        yield chromium


def start(folder: Path) -> Chromium:
    """The browser of one participant, who comes back to it."""
    if PROGRAM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    return Chromium(folder / "profile", folder / "downloads")


def begin(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.click("#start")
    ready(browser, done(browser))


def done(browser: Chromium) -> int:
    return int(browser.run("document.querySelector('progress').value"))


def ready(browser: Chromium, count: int) -> None:
    """Waits until so many comparisons are done and the next one is shown."""
    browser.wait(f"document.querySelector('progress').value === {count} && !document.querySelector('.loading')")


def shown(browser: Chromium) -> tuple[str, str]:
    """The methods on the left and on the right, told by their pixels."""
    left, right = browser.run("['#left img', '#right img'].map(place => document.querySelector(place).src)")
    return method_of(left), method_of(right)


def judge(browser: Chromium, count: int, mouse: bool = False) -> list[tuple[str, str, str]]:
    """Chooses the darker result so many times; what was left, right and chosen."""
    made = []
    for _ in range(count):
        left, right = shown(browser)
        before, darker = done(browser), "left" if METHODS[left] < METHODS[right] else "right"
        if mouse:
            browser.click(f"#{darker}")
        else:
            browser.press({"left": "ArrowLeft", "right": "ArrowRight"}[darker])
        ready(browser, before + 1)
        made.append((left, right, left if darker == "left" else right))
    return made


def export(browser: Chromium, folder: Path, button: str) -> tuple[Path, dict[str, Any]]:
    """The file that a button downloads; it replaces none."""
    before = set(folder.glob("*.json"))
    browser.click(button)
    end = time.monotonic() + 10
    while not (new := set(folder.glob("*.json")) - before):
        assert time.monotonic() < end, "nothing was downloaded"
        time.sleep(0.02)
    [path] = new
    return path, json.loads(path.read_text(encoding="utf-8"))


def test_a_participant_judges_closes_the_tab_and_goes_on(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, downloads = write(folders, rainy=folders / "rainy"), tmp_path / "downloads"
    with start(tmp_path) as browser:
        begin(browser, page)
        made = judge(browser, 3)
        assert browser.run("document.querySelector('#count').textContent") == f"4 of {ALL}"
        browser.press("Backspace")
        ready(browser, 2)
        assert shown(browser) == made.pop()[:2]
        made += judge(browser, 1, mouse=True)
        assert not [name for name in METHODS if name in browser.run("document.documentElement.outerHTML")]
        _, early = export(browser, downloads, "#export")
        browser.open(page)
        assert browser.run("document.querySelector('#start').textContent") == "Continue"
        assert browser.run("document.querySelector('#count').textContent") == f"3 of {ALL} done"
    with start(tmp_path) as browser:
        begin(browser, page)
        made += judge(browser, 2)
        browser.press("u")
        ready(browser, 4)
        made = made[:4] + judge(browser, ALL - 4)
        assert browser.run("!document.querySelector('#end').hidden")
        path, late = export(browser, downloads, "#download")
        browser.click("#next")
        begin(browser, page)
        judge(browser, ALL)
        _, other = export(browser, downloads, "#download")

    assert [(answer["left"], answer["right"], answer["chosen"]) for answer in late["answers"]] == made
    assert late["answers"][:3] == early["answers"]
    assert late["participant"] == early["participant"] != other["participant"]
    assert {late["study"], early["study"], other["study"]} == {read(page)[0]["id"]}
    pairs = Counter((answer["image"], *sorted((answer["left"], answer["right"]))) for answer in late["answers"])
    assert pairs == Counter((image, *pair) for image in IMAGES for pair in combinations(sorted(METHODS), 2))
    assert all(0 <= answer["milliseconds"] < 60_000 for answer in late["answers"])
    stamps = [late["started"], *(answer["at"] for answer in late["answers"]), late["exported"]]
    assert stamps == sorted(stamps)
    assert path.name == f"answers-{late['study']}-{late['participant']}-{ALL}.json"

    capsys.readouterr()
    assert main(["report", "rank", "--answers", str(downloads), "--format", "json"]) == 0
    ranking = json.loads(capsys.readouterr().out)
    assert list(ranking["methods"]) == list(METHODS)
    assert [standing["rank_product"] for standing in ranking["methods"].values()] == pytest.approx([1, 2, 3])
    assert (ranking["participants"], ranking["comparisons"], ranking["agreement"]) == (2, 2 * ALL, 1)
    assert len(ranking["notes"]) == 1


def plans(browser: Chromium, count: int) -> list[list[list[int]]]:
    """Image, left and right method of every comparison of so many participants."""
    comparison = "({ image, methods }) => [study.images.indexOf(image), ...methods]"
    found: list[list[list[int]]] = browser.run(f"[...Array({count}).keys()].map(i => plan('p' + i).map({comparison}))")
    return found


def test_order_and_sides_differ_between_participants(folders: Path, browser: Chromium) -> None:
    browser.open(write(folders))
    everyone = plans(browser, 60)
    every = {(image, *pair) for image in range(3) for pair in combinations(range(3), 2)}
    assert all({(image, *sorted(pair)) for image, *pair in plan} == every for plan in everyone)
    assert all(len(plan) == ALL for plan in everyone)
    orders = {tuple((image, *sorted(pair)) for image, *pair in plan) for plan in everyone}
    assert len(orders) == 60
    ascending = [left < right for plan in everyone for _, left, right in plan]
    assert 0.42 < np.mean(ascending) < 0.58
    first = Counter(image for plan in everyone for image, *_ in plan[:1])
    assert min(first.values()) >= 8
    assert plans(browser, 2) == everyone[:2]


def test_some_pairs_only_are_others_for_everyone(folders: Path, browser: Chromium) -> None:
    browser.open(write(folders, pairs_per_image=2))
    everyone = plans(browser, 40)
    assert all(Counter(image for image, *_ in plan) == {0: 2, 1: 2, 2: 2} for plan in everyone)
    seen = Counter((image, *sorted(pair)) for plan in everyone for image, *pair in plan)
    assert len(seen) == ALL
    assert min(seen.values()) >= 15
    assert all(len({(image, *sorted(pair)) for image, *pair in plan}) == 6 for plan in everyone)


@pytest.mark.parametrize(("width", "height"), [(400, 800), (1600, 900)])
@pytest.mark.parametrize("rainy", [True, False], ids=["rainy", "plain"])
def test_both_results_are_in_view(folders: Path, browser: Chromium, rainy: bool, width: int, height: int) -> None:
    page = write(folders, rainy=folders / "rainy" if rainy else None)
    browser.open(page)
    browser.resize(width, height)
    begin(browser, page)
    browser.resize(width, height)
    box = "place => { const { x, y, right, bottom } = document.querySelector(place).getBoundingClientRect(); "
    box += "return [x, y, right, bottom] }"
    for count in range(ALL):
        assert browser.run("document.documentElement.scrollWidth") == width
        boxes = browser.run(f"['#left', '#right', '#rainy'].map({box})")
        for left, top, right, bottom in boxes[: 2 + rainy]:
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
        assert min(boxes[0][2] - boxes[0][0], boxes[1][2] - boxes[1][0]) > width / 4
        browser.press("ArrowLeft")
        ready(browser, count + 1)


def test_a_held_key_and_shortcuts_of_the_browser_choose_nothing(folders: Path, browser: Chromium) -> None:
    begin(browser, write(folders))
    for extra in ({"autoRepeat": True}, {"modifiers": 1}, {"modifiers": 2}):
        browser.press("ArrowRight", **extra)
    assert done(browser) == 0
    browser.press("ArrowRight")
    ready(browser, 1)


def test_without_storage_the_page_says_so_and_works(folders: Path, browser: Chromium) -> None:
    browser.open(write(folders))
    assert browser.run("document.querySelector('#unkept').hidden")
    browser.run("Storage.prototype.setItem = () => { throw new Error('blocked') }; keep(); show()")
    assert not browser.run("document.querySelector('#unkept').hidden")
    browser.click("#start")
    ready(browser, 0)
    assert len(judge(browser, 2)) == 2


def test_everything_to_press_has_a_name(folders: Path, browser: Chromium) -> None:
    begin(browser, write(folders, rainy=folders / "rainy"))
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    names = {
        (node["role"]["value"], node["name"]["value"]) for node in nodes if "name" in node and not node.get("ignored")
    }
    wanted = {("button", name) for name in ("Prefer result A", "Prefer result B", "Undo", "Export so far")}
    assert wanted | {("image", "The rainy photograph"), ("progressbar", "Comparisons done")} <= names
