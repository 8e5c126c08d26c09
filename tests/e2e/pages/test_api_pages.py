"""The pages in a real browser: they keep themselves up to date, and everybody can use them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.testing import example
from tests.api_stage import Running, Stage, Watched, fill, running, staged, watch

CHROMIUM = Path("/usr/bin/chromium")
NODE_MODULES = Path(__file__).parents[3] / "node_modules"

pytestmark = [
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="no Chromium at /usr/bin/chromium; apt-get install chromium"
    ),
    pytest.mark.skipif(not (NODE_MODULES / "htmx.org").exists(), reason="no node_modules; run npm ci"),
]


@pytest_asyncio.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    async with staged(database_url) as prepared:
        yield prepared


@pytest_asyncio.fixture
async def api(stage: Stage, database_url: str, amqp_url: str) -> AsyncIterator[Running]:
    async with running(database_url, amqp_url) as started:
        yield started


@pytest_asyncio.fixture
async def page() -> AsyncIterator[Page]:
    """A tab; whatever it complains about fails the test."""
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking"],
        )
        opened = await browser.new_page()
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        yield opened
        await browser.close()
    assert complaints == []


TARGETS = (
    Watched("acme/shop", days=((12, 0, 0, 0), (31, 1, 0, 0), (28, 0, 0, 0))),
    Watched(
        "acme/warehouse",
        days=((9, 0, 2, 1), (22, 0, 0, 0)),
        gaps=(
            ("30433641", 1, "missing", "never_listed", "No listing that was polled has shown it."),
            (
                "30433644",
                2,
                "missing",
                "unreadable",
                "Listed, and refused: it, or its run, could not be read.",
            ),
            (
                "30433650",
                1,
                "open",
                "end_not_seen",
                "It has ended, and no observation of that end is recorded.",
            ),
        ),
        asked_again=3,
    ),
    Watched(
        "acme/mobile-app",
        days=((4, 0, 0, 0),),
        measured=timedelta(hours=7),
        worked=timedelta(hours=6, minutes=12),
        failing=(
            timedelta(hours=6, minutes=11),
            "unauthorized",
            "GitHub refuses the token. Make a new one and set GITHUB_TOKEN.",
        ),
        postponed="GitHub refuses the token. Make a new one and set GITHUB_TOKEN.",
    ),
    Watched("acme/design-system", measured=None, worked=None),
)
"""One of each kind."""


async def test_what_is_missing_is_on_a_page(api: Running, stage: Stage, page: Page) -> None:
    """Each target with its figures and reasons; a failing one with when it last worked and why."""
    await page.goto(f"{api.url}/completeness")
    await expect(page.locator("#verdict")).to_contain_text("Nothing is polled")
    await watch(stage, *TARGETS, now=datetime.now(UTC))
    await page.goto(f"{api.url}/completeness")
    await expect(page.locator("#verdict")).to_contain_text("lacks 2 attempts and holds 1 open that has ended")
    await expect(page.locator("table.targets tbody tr:not(.why)")).to_have_count(4)
    await expect(page.locator("tr.why")).to_contain_text("Polls fail since 6 h ago (unauthorized)")
    await expect(page.locator("#live")).to_contain_text("No listing that was polled has shown it.")
    await page.goto(f"{api.url}/completeness?target=acme/shop")
    await expect(page.locator("#verdict")).to_contain_text("Nothing is missing: the log has all 71 attempts")


async def test_a_build_appears_without_a_reload(api: Running, stage: Stage, page: Page) -> None:
    """What is recorded while the page is open is on it a moment later; the focus stays where it was."""
    now = datetime.now(UTC)
    await stage.build(1, "success", at=now - timedelta(minutes=5))
    await page.goto(api.url)
    await expect(page.locator("#connection-text")).to_have_text("Live", timeout=20_000)
    await page.evaluate("window.neverReloaded = true")
    await page.keyboard.press("j")
    focused = await page.evaluate("document.activeElement.getAttribute('href')")
    assert focused.startswith("/builds/")
    await expect(page.locator("table.builds tbody tr")).to_have_count(1)

    await stage.build(2, "failure", at=now, message="<b>Break</b> everything", author="grace")
    fact = example(BuildObservedV1)
    await api.relay(fact, await stage.record(fact))

    await expect(page.locator("table.builds tbody tr")).to_have_count(2, timeout=20_000)
    await expect(page.locator(".broken li")).to_contain_text("<b>Break</b> everything")
    await expect(page.locator(".broken li")).to_contain_text("by grace")
    await expect(page).to_have_title("1 broken · Buildlight")
    assert await page.evaluate("window.neverReloaded")
    assert await page.evaluate("document.activeElement.getAttribute('href')") == focused


async def test_the_keyboard_walks_the_builds(api: Running, stage: Stage, page: Page) -> None:
    """The keys j and k move, Enter opens, ? explains; none of them while typing."""
    now = datetime.now(UTC)
    for run in (1, 2, 3):
        await stage.build(run, at=now - timedelta(minutes=run))
    await page.goto(f"{api.url}/builds")
    rows = page.locator("a.row")
    await page.keyboard.press("j")
    await expect(rows.nth(0)).to_be_focused()
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("k")
    await expect(rows.nth(1)).to_be_focused()
    await page.keyboard.press("?")
    await expect(page.locator("#shortcuts")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    await page.keyboard.type("jk?")
    await expect(page.locator("input[name=repository]")).to_have_value("jk?")
    await expect(page.locator("#shortcuts")).to_be_hidden()
    await rows.nth(1).focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("h1 .dim")).to_have_text("#2")


async def test_the_pages_work_without_scripts(api: Running, stage: Stage) -> None:
    """Everything is in the markup: links, lists, the waterfall."""
    failed = await fill(stage, datetime.now(UTC))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--headless", "--disable-gpu"]
        )
        page = await browser.new_page(java_script_enabled=False)
        await page.goto(api.url)
        assert await page.locator(".broken li").count() == 3
        assert await page.inner_text("#connection-text") == "Reload for news"
        await page.goto(f"{api.url}/builds/{failed}")
        assert await page.locator(".waterfall details").count() == 5
        await browser.close()


@pytest.mark.skipif(not (NODE_MODULES / "axe-core").exists(), reason="no axe-core; run npm ci")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_to_complain_about(
    api: Running, stage: Stage, page: Page, scheme: Any
) -> None:
    """No page breaks a rule of axe-core, in light and in dark, and none is wider than a phone."""
    failed = await fill(stage, datetime.now(UTC))
    await watch(stage, *TARGETS, now=datetime.now(UTC))
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    for path in ("/", "/builds?state=failure", f"/builds/{failed}", "/completeness?since=7d"):
        await page.set_viewport_size({"width": 1280, "height": 900})
        await page.goto(api.url + path)
        # Through the debugger, which the page's own policy does not bind.
        await page.evaluate((NODE_MODULES / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
        found = await page.evaluate("axe.run()")
        assert [
            (violation["id"], [node["html"][:200] for node in violation["nodes"][:3]])
            for violation in found["violations"]
        ] == [], path
        await page.set_viewport_size({"width": 390, "height": 800})
        assert await page.evaluate("document.documentElement.scrollWidth") == 390


async def test_the_api_explains_itself_offline(api: Running, page: Page) -> None:
    """The interactive documentation loads from this server alone."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{api.url}/docs")
    await expect(page.locator(".opblock-summary").first).to_be_visible(timeout=30_000)
    assert [url for url in asked if not url.startswith((api.url, "data:"))] == []
