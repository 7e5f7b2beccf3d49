#!/usr/bin/env python3
"""The dashboard in a real browser: what a person sees of agents, connections and a running sync.

Starts a control plane and an agent out of the stage (INSHORE_STAGE), and drives Debian's Chromium with Playwright. Not
part of `unittest discover -s tests/python`, because it needs both: run it by name. Without one of them it fails.
"""

import contextlib
import hashlib
import io
import os
import pathlib
import sqlite3
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from stack import Stack, wait_until  # noqa: E402

CHROMIUM = os.environ.get("INSHORE_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server", "--disable-dev-shm-usage",
]
WAIT_MS = 20_000
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}
EVIL = "<script>alert(1)</script>"
EVIL_TABLE = "<img src=x onerror=alert(1)>"

# Twelve ticks over the seconds asked for, each with rows in two tables and a checkpoint; `fail` raises after the first.
CONNECTOR = f"""
import time
from fivetran_connector_sdk import Connector, Operations as op

def schema(configuration):
    return [{{"table": "orders", "primary_key": ["id"]}}, {{"table": {EVIL_TABLE!r}, "primary_key": ["id"]}}]

def update(configuration, state):
    first = state.get("next", 0)
    for tick in range(12):
        for number in range(50):
            op.upsert("orders", {{"id": first, "amount": number * 0.5}})
            if number % 5 == 0:
                op.upsert({EVIL_TABLE!r}, {{"id": first}})
            first += 1
        op.checkpoint({{"next": first}})
        if configuration.get("fail"):
            raise ValueError("told to")
        time.sleep(float(configuration["seconds"]) / 12)

connector = Connector(update=update, schema=schema)
"""
ROWS = 12 * 60

# Keeps every value that an element of the page had, from outside of the page's own scripts.
WATCH = """() => {
  window.seen = {rows: [], checkpoints: [], stage: [], status: []};
  window.loadedOnce = true;
  const keep = (name, value) => { const list = window.seen[name]; if (list[list.length - 1] !== value) list.push(value); };
  const look = () => {
    const text = (id) => document.getElementById(id).textContent;
    for (const id of ["rows", "checkpoints", "status"]) keep(id, text(id));
    const now = document.querySelector("#steps .now, #steps [aria-current]");
    if (now) keep("stage", now.dataset.step);
  };
  look();
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
}"""

# Every text of the page whose contrast is below WCAG AA, as "ratio text".
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return parse(getComputedStyle(document.documentElement).backgroundColor);
  };
  const low = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.tagName === "SCRIPT" || element.tagName === "NOSCRIPT") continue;
    texts += 1;
    const style = getComputedStyle(element), one = light(parse(style.color)), other = light(ground(element));
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) low.push(`${ratio.toFixed(2)} ${text}`);
  }
  return {texts, low};
}"""


def package(source):
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr(zipfile.ZipInfo("connector.py", (1980, 1, 1, 0, 0, 0)), source)
    return output.getvalue()


def number(text):
    return int(text.replace(",", ""))


class DashboardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        stage = os.environ.get("INSHORE_STAGE")
        if not stage:
            raise AssertionError("INSHORE_STAGE is not set: run ./dev build and set it to target/stage")
        if not os.access(CHROMIUM, os.X_OK):
            raise AssertionError(f"{CHROMIUM} is missing: apt-get install chromium, or set INSHORE_CHROMIUM")
        from playwright.sync_api import sync_playwright

        folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="inshore-browser-"))
        cls.stack = cls.enterClassContext(Stack(stage, folder))
        cls.stack.control.start()
        cls.url, cls.client = cls.stack.control.url, cls.stack.client
        playwright = cls.enterClassContext(sync_playwright())
        cls.browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=30_000)
        cls.addClassCleanup(cls.browser.close)
        cls.empty_text = cls.text_of_empty_overview()
        cls.create(pathlib.Path(folder))

    @classmethod
    def text_of_empty_overview(cls):
        with contextlib.closing(cls.new_context()) as context:
            page = context.new_page()
            page.goto(cls.url)
            return page.inner_text("main")

    @classmethod
    def new_context(cls, credentials=True, size="wide", scheme="light", script=True):
        user, _, password = cls.stack.control.key.partition(":")
        login = {"http_credentials": {"username": user, "password": password}} if credentials else {}
        context = cls.browser.new_context(
            viewport=SIZES[size], color_scheme=scheme, java_script_enabled=script, reduced_motion="reduce", **login
        )
        context.set_default_timeout(WAIT_MS)
        return context

    @classmethod
    def create(cls, folder):
        """Agent, destination and two connections: one that works, one that fails; both have synced once."""
        client, lake = cls.client, folder / "lake"
        lake.mkdir()
        zipped = package(CONNECTOR)
        cls.stack.agent.configure([lake.as_uri()], [hashlib.sha256(zipped).hexdigest()])
        group_id = client.create_group(EVIL)
        agent = client.create_agent(EVIL, group_id)
        cls.agent_id = agent["id"]
        cls.stack.agent.enrol(agent["token"])
        cls.stack.agent.start()
        client.create_destination(group_id, lake.as_uri())
        package_id = client.upload("/v1/connector-sdk/packages", "ticks.zip", zipped)["id"]
        naming = {"destination_schema_names": "SOURCE_NAMING"}
        cls.good = client.create_connection(group_id, "aaa_ticks", package_id, {"seconds": "0"}, **naming)
        cls.slow = client.create_connection(group_id, "slow_ticks", package_id, {"seconds": "5"}, **naming)
        cls.bad = client.create_connection(group_id, "zzz_broken", package_id, {"seconds": "0", "fail": "1"}, **naming)
        cls.stack.wait_online(cls.agent_id)
        syncs = {connection: client.start_sync(connection) for connection in (cls.good, cls.bad)}
        cls.done = {connection: client.sync(connection, sync, 60) for connection, sync in syncs.items()}

    def setUp(self):
        self.told = []  # console errors, failed requests, dialogs
        self.foreign = []

    def tearDown(self):
        self.assertEqual(self.told, [], "the browser complained")
        self.assertEqual(self.foreign, [], "requests to another origin")

    def open(self, path, **options):
        context = self.new_context(**options)
        self.addCleanup(context.close)
        page = context.new_page()

        def asked(request):
            if not request.url.startswith(self.url + "/"):
                self.foreign.append(request.url)

        def dialog(dialog):
            self.told.append(f"dialog {dialog.message}")
            dialog.dismiss()

        page.on("request", asked)
        page.on("dialog", dialog)
        page.on("pageerror", lambda error: self.told.append(f"script error {error}"))
        page.on("console", lambda line: self.told.append(line.text) if line.type in ("error", "warning") else None)
        answer = page.goto(self.url + path)
        self.assertEqual(answer.status, 200, path)
        return page

    def until(self, page, condition):
        """Asks from outside: the page's policy forbids to evaluate text inside."""
        wait_until(WAIT_MS / 1000, lambda: page.evaluate(condition), condition)

    def row_of(self, page, name):
        return page.locator("tr", has=page.locator("th .name", has_text=name))

    def test_without_the_key_there_is_nothing_to_see(self):
        context = self.new_context(credentials=False)
        self.addCleanup(context.close)
        for path in ("/", f"/syncs/{self.done[self.good]['id']}", f"/v1/syncs/{self.done[self.good]['id']}/events"):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.url + path)
            with refused.exception as answer:
                self.assertEqual(answer.code, 401, path)
                self.assertTrue(answer.headers["WWW-Authenticate"].startswith("Basic"), "browsers ask for the key")
                self.assertNotIn("ticks", answer.read().decode())

    def test_an_empty_overview_says_what_to_do_next(self):
        for words in ("Nothing moves yet", "POST /v1/hybrid-deployment-agents", "inshore enrol", "POST /v1/connections"):
            self.assertIn(words, self.empty_text)

    def test_the_overview_shows_agents_and_connections_failing_first(self):
        for connection, status in ((self.good, "succeeded"), (self.bad, "failed")):
            self.assertEqual(self.done[connection]["status"], status, self.done[connection])
        page = self.open("/")
        agent = self.row_of(page, EVIL).last.inner_text()
        for words in ("online", "managed", self.client.agent(self.agent_id)["version"], "CPU"):
            self.assertIn(words, agent)
        self.assertRegex(agent, r"just now|\d+ s ago")
        names = page.locator("table[aria-labelledby=connections] tbody .name").all_inner_texts()
        self.assertEqual(names[0], "zzz_broken", names)
        self.assertIn("1 connection failing", page.inner_text(".verdict"))
        good = self.row_of(page, "aaa_ticks")
        for words in ("healthy", "succeeded", str(ROWS), "on request"):
            self.assertIn(words, good.inner_text())
        bad = self.row_of(page, "zzz_broken")
        self.assertIn("SDK-001", bad.inner_text())
        bad.get_by_role("link", name="zzz_broken: failed sync").click()
        page.wait_for_url("**/syncs/*")
        self.assertIn("Not finished", page.inner_text("#steps"))
        page.get_by_role("link", name="What SDK-001 means and what to do").click()
        page.wait_for_url("**/errors/SDK-001")
        self.assertIn("Read the traceback", page.inner_text("main"))

    def test_a_running_sync_is_watched_live_to_its_end(self):
        sync_id = self.client.start_sync(self.slow)
        page = self.open(f"/syncs/{sync_id}")
        page.evaluate(WATCH)
        quiet = self.open(f"/syncs/{sync_id}", script=False)
        self.until(page, "window.seen.checkpoints.length > 2")
        self.assertIn("running", quiet.content(), "the page without scripts is there while it runs")
        listed = self.open("/")
        link = self.row_of(listed, EVIL).last.get_by_role("link", name="slow_ticks")
        self.assertEqual(link.get_attribute("href"), f"/syncs/{sync_id}", "the agent's row names what it runs")
        self.until(page, "document.getElementById('status').textContent === 'succeeded'")
        self.until(page, "document.querySelector('#steps .now, #steps .ahead') === null")
        seen = page.evaluate("window.seen")
        self.assertTrue(page.evaluate("window.loadedOnce === true"), "the page was not loaded again")
        rows, checkpoints = ([number(text) for text in seen[name]] for name in ("rows", "checkpoints"))
        for values in (rows, checkpoints):
            self.assertGreaterEqual(len(values), 3, seen)
            self.assertEqual(values, sorted(values), seen)
        self.assertEqual((rows[-1], checkpoints[-1]), (ROWS, self.client.sync(self.slow, sync_id)["checkpoints"]), seen)
        self.assertIn("extract", seen["stage"], seen)
        self.assertEqual(seen["stage"][-1], "done", seen)
        self.assertEqual(seen["status"][-2:], ["running", "succeeded"], seen)
        tables = page.locator("#tables tr")
        self.assertEqual([tables.nth(n).locator(".name").inner_text() for n in (0, 1)],
                         ["slow_ticks.orders", f"slow_ticks.{EVIL_TABLE}"])
        bars = [tables.nth(n).locator("rect").get_attribute("width") for n in (0, 1)]
        self.assertEqual(bars, ["100%", "20%"])
        self.assertEqual(page.locator("main img, main script").count(), 0)

    def test_pages_read_without_scripts(self):
        page = self.open("/", script=False)
        for words in ("zzz_broken", "aaa_ticks", "online", "managed", EVIL, "As of"):
            self.assertIn(words, page.inner_text("main"))
        page.get_by_role("link", name="aaa_ticks: succeeded sync").click()
        page.wait_for_url("**/syncs/*")
        for words in (str(ROWS), "succeeded", "aaa_ticks.orders", EVIL_TABLE, "Done", "checkpoints"):
            self.assertIn(words, page.inner_text("main"))

    def rename(self, connection, name):
        file = self.stack.control.state / "control.sqlite"
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=10)) as store, store:
            store.execute("UPDATE connections SET schema_name = ? WHERE id = ?", (name, connection))

    def test_names_are_text_and_never_markup(self):
        # REST refuses such a name for a connection; whatever put it into the store, the page shows it as text.
        self.rename(self.good, EVIL)
        try:
            for path in ("/", f"/syncs/{self.done[self.good]['id']}"):
                page = self.open(path)
                self.assertIn(EVIL, page.inner_text("main"))
                self.assertIn(EVIL_TABLE if path != "/" else EVIL, page.inner_text("main"))
                self.assertEqual(page.locator("main script, main img, main [onerror]").count(), 0)
        finally:
            self.rename(self.good, "aaa_ticks")

    def test_every_page_fits_and_has_contrast_in_both_schemes(self):
        paths = ["/", *(f"/syncs/{self.done[connection]['id']}" for connection in (self.good, self.bad)), "/errors/SDK-001"]
        for scheme in ("light", "dark"):
            for size in SIZES:
                page = self.open(paths[0], size=size, scheme=scheme)
                for path in paths:
                    with self.subTest(path=path, scheme=scheme, size=size):
                        page.goto(self.url + path)
                        width = page.evaluate("document.documentElement.scrollWidth")
                        self.assertLessEqual(width, SIZES[size]["width"], "it scrolls sideways")
                        contrast = page.evaluate(CONTRAST)
                        self.assertGreater(contrast["texts"], 15)
                        if pictures := os.environ.get("INSHORE_PICTURES"):
                            name = f"{paths.index(path)}-{scheme}-{size}.png"
                            page.screenshot(path=pathlib.Path(pictures) / name, full_page=True)
                        self.assertEqual(contrast["low"], [])
                page.context.close()

    def test_the_keyboard_is_enough_and_keeps_its_place(self):
        page = self.open("/")
        page.keyboard.press("Tab")
        self.assertEqual(page.evaluate("document.activeElement.textContent"), "Skip to content")
        for _ in range(4):
            box = page.evaluate("""() => {
              const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();
              return {tag: e.tagName, outline: s.outlineStyle, width: parseFloat(s.outlineWidth), top: b.top};
            }""")
            self.assertEqual((box["tag"], box["outline"]), ("A", "solid"), box)
            self.assertGreaterEqual(box["width"], 2, box)
            self.assertGreaterEqual(box["top"], 0, box)
            page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.getAttribute('href')")
        page.evaluate("window.before = document.getElementById('main')")
        self.until(page, "document.getElementById('main') !== window.before")
        self.assertEqual(page.evaluate("document.activeElement.getAttribute('href')"), focused, "a refresh moved the focus")

    def test_pages_forbid_what_they_do_not_use(self):
        context = self.new_context()
        self.addCleanup(context.close)
        page = context.new_page()
        policy = page.goto(self.url).headers["content-security-policy"]
        for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'"):
            self.assertIn(rule, policy)
        self.assertNotIn("unsafe", policy)
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=/x onerror=\"window.hit = 1\">')")
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 1'}))")
        time.sleep(0.2)
        self.assertEqual(page.evaluate("window.hit"), None, "an inline script ran")


if __name__ == "__main__":
    unittest.main(verbosity=2)
