#!/usr/bin/env python3
"""The story of one sync, told with the real programs: ./dev demo [--keep]

A control plane, an agent and a connector move a shop's 200,000 rows into Delta tables; in the middle agent, job and
connector get `kill -9`; the agent comes back; then the source changes and is synced again. After both syncs an oracle
compares every row with the source. The last line is `demo: ok: <rows> rows, lost 0, duplicated 0, changed 0`, or the
exit code is 1. What it starts, it ends, also after Ctrl-C; only with --keep the stack stays up, until --stop.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

import oracle
from stack import Stack, StackError, family, kill_family, pack

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "shop"
SCHEMA = "shop"
CHECK_READERS = ("deltalake", "duckdb")
KILL_AFTER_CHECKPOINTS = 2
SYNC_SECONDS = 300
ENDED = ("succeeded", "failed", "failed_with_task", "rescheduled", "cancelled")
ROWS_MIN = 20_000  # fewer are through before anybody could kill anything
WIDTH = 100


class Stopped(BaseException):
    """A signal asked the demo to end."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


# ---- telling --------------------------------------------------------------------------------------------------------


class Story:
    """Prints steps, facts and one line of live progress: rewritten on a terminal, once a second in a pipe."""

    def __init__(self, out=sys.stdout):
        self.out = out
        self.terminal = out.isatty()
        self.bold = self.terminal and not os.environ.get("NO_COLOR")
        self.steps = 0
        self._live_at = 0.0
        self._live_shown = False

    def _print(self, text=""):
        if self._live_shown:
            self.out.write("\r\x1b[K")
            self._live_shown = False
        print(text, file=self.out, flush=True)

    def step(self, title, text):
        self.steps += 1
        head = f"{self.steps}. {title}."
        wrapped = textwrap.wrap(f"{head} {text}", WIDTH, subsequent_indent="   ", break_on_hyphens=False)
        if self.bold:
            wrapped[0] = f"\x1b[1m{head}\x1b[0m{wrapped[0][len(head):]}"
        self._print()
        self._print("\n".join(wrapped))
        self._live_at = 0.0

    def fact(self, text):
        self._print(f"   {text}")

    def line(self, text=""):
        self._print(text)

    def live(self, text):
        now = time.monotonic()
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            self.out.write(f"\r\x1b[K{f'   {text}'[:width]}")
            self.out.flush()
            self._live_shown = True
        elif now - self._live_at >= 1:
            self._live_at = now
            self._print(f"   {text}")


@contextlib.contextmanager
def timed():
    """Seconds since the block began, as text."""
    started = time.monotonic()
    yield lambda: f"{time.monotonic() - started:.1f} s"


def progress(sync, rows_total=None):
    rows = sum(sync["rows"][name] for name in ("upserts", "updates", "deletes"))
    of = f" of {rows_total:,}" if rows_total else ""
    rate = f", {sync['rows_per_s']:,.0f} rows/s" if sync.get("rows_per_s") else ""
    stage = sync.get("stage") or sync["status"]
    plural = "" if sync["checkpoints"] == 1 else "s"
    return f"{stage:<9} {rows:>8,}{of} rows{rate}, {sync['checkpoints']} checkpoint{plural}"


# ---- the steps ------------------------------------------------------------------------------------------------------


class Demo:
    def __init__(self, stack, rows, story):
        self.stack, self.rows, self.story = stack, rows, story
        self.source, self.before = stack.folder / "source/shop.db", stack.folder / "shop-before.db"
        self.lake = stack.folder / "lake"
        self.connection_id = None

    def make_source(self):
        self.story.step("The source", "A SQLite file with customers, orders, order lines (which have no key) and events.")
        self.source.parent.mkdir()
        with timed() as elapsed:
            generate(self.source, "--rows", self.rows)
            self.story.fact(f"{self.rows:,} rows in {self.source} ({elapsed()})")

    def start_control(self):
        self.story.step(
            "The control plane", "It says when to sync what. It never sees a row, a key, a cursor or a password."
        )
        with timed() as elapsed:
            self.stack.control.start()
            self.story.fact(f"serving agents at {self.stack.control.address} ({elapsed()})")
        user, _, password = self.stack.control.key.partition(":")
        self.story.fact(f"dashboard: {self.stack.control.url}/  user {user}  password {password}")

    def write_policy(self):
        self.story.step(
            "What this host allows", "The agent obeys its own policy.toml before any control plane: here one connector"
            " package, by digest, and one destination. Connectors run in a sandbox, which shows them one folder of this host"
            " beside their own. Anything else is refused.",
        )
        self.package = pack(EXAMPLE)
        digest = hashlib.sha256(self.package).hexdigest()
        self.lake.mkdir()
        self.stack.agent.configure([self.lake.as_uri()], [digest], readable=[self.source.parent])
        self.story.fact(f"connector   examples/shop, unmodified: sha-256 {digest[:16]}…")
        self.story.fact(f"destination {self.lake.as_uri()}")
        self.story.fact(f"readable    {self.source.parent}")

    def start_agent(self):
        self.story.step(
            "The agent", "It enrols with a token that works once, then dials out: TLS outside, Noise inside. Nothing on"
            " this host listens for it.",
        )
        client = self.stack.client
        with timed() as elapsed:
            self.group_id = client.create_group("demo")
            agent = client.create_agent("demo", self.group_id)
            self.agent_id = agent["id"]
            self.stack.agent.enrol(agent["token"])
            self.story.fact(f"enrolled as {self.agent_id}")
        with timed() as elapsed:
            self.stack.agent.start()
            self.stack.wait_online(self.agent_id)
            self.story.fact(f"process {self.stack.agent.pid} is online ({elapsed()} after its start)")

    def create_connection(self):
        self.story.step(
            "The connection", "By REST: this package, this destination, these settings. Settings are sealed to the"
            " agent's key on arrival; the control plane keeps what it cannot read.",
        )
        client = self.stack.client
        client.create_destination(self.group_id, self.lake.as_uri())
        package_id = client.upload("/v1/connector-sdk/packages", "shop.zip", self.package)["id"]
        settings = {"database": str(self.source), "checkpoint_rows": str(max(1_000, self.rows * 9 // 100))}
        self.connection_id = client.create_connection(self.group_id, SCHEMA, package_id, settings)
        self.story.fact(f"{self.connection_id}, package of {len(self.package):,} bytes")

    def sync_and_kill(self):
        self.story.step(
            "The first sync, and kill -9",
            "The agent starts one process for the job, and that one the connector's Python. When"
            f" {KILL_AFTER_CHECKPOINTS} checkpoints are durable, all of them are killed at once, in whatever they do.",
        )
        self.sync_id = self.stack.client.start_sync(self.connection_id)
        self.story.fact(f"watch it live: {self.stack.control.url}/syncs/{self.sync_id}")
        with timed() as elapsed:
            sync = self.follow(lambda sync: self.durable() >= KILL_AFTER_CHECKPOINTS)
            if sync["status"] in ENDED:
                raise StackError(f"the sync ended ({sync['status']}) before it could be killed{reason(sync)}")
            killed = self.stack.agent.kill()
            self.story.fact(f"kill -9 after {elapsed()}, with {self.durable()} checkpoints durable:")
        for pid, what in killed:
            self.story.fact(f"    {pid:>7}  {what}")

    def come_back(self):
        self.story.step(
            "The agent comes back", "It finds the job that it had accepted on its disk, reads at the destination how far"
            " it got, and goes on from there. What was written but never committed is swept up.",
        )
        with timed() as elapsed:
            self.stack.agent.start()
            self.stack.wait_online(self.agent_id)
            sync = self.finished(self.follow())
            self.story.fact(f"{progress(sync)} since the restart ({elapsed()})")

    def change_source(self):
        self.story.step(
            "The source changes", "Rows are inserted, updated and deleted, customers get a new column, and an order's"
            " quantity may now be a fraction, which widens its type.",
        )
        shutil.copyfile(self.source, self.before)
        generate(self.source, "--change")
        self.sync_id = self.stack.client.start_sync(self.connection_id)
        with timed() as elapsed:
            sync = self.finished(self.follow())
            rows = sync["rows"]
            self.story.fact(
                f"second sync: {rows['upserts']:,} upserts, {rows['updates']:,} updates, {rows['deletes']:,} deletes"
                f" ({elapsed()})"
            )

    def check(self, text, before=None):
        self.story.step("The check", text)
        with timed() as elapsed:
            self.story.live("comparing…")
            result = oracle.compare(self.lake, SCHEMA, self.source, CHECK_READERS, before)
            for line in result.lines():
                self.story.fact(line)
            self.story.fact(f"{result.summary()} ({elapsed()})")
        if not result.ok:
            raise StackError(f"the tables are not the source: {result.summary()}")
        return result

    def follow(self, until=lambda sync: False):
        """Shows the sync's progress until it ends or `until` says so; returns what was last known of it."""
        client = self.stack.client
        total = None if self.before.exists() else self.rows
        deadline = time.monotonic() + SYNC_SECONDS
        while True:
            sync = client.sync(self.connection_id, self.sync_id)
            if sync["status"] in ENDED or until(sync):
                return sync
            self.story.live(progress(sync, total))
            self.stack.check()
            if time.monotonic() > deadline:
                raise StackError(f"the sync did not end within {SYNC_SECONDS} s; it is {sync['status']}")
            time.sleep(0.05)

    def durable(self):
        """Commits in the connection's chain at the destination: what no crash takes back."""
        entries = (self.lake / "_inshore").glob("*/chain/*.json")
        return sum(json.loads(entry.read_bytes().split(b"\n", 1)[0])["kind"] == "commit" for entry in entries)

    def finished(self, sync):
        if sync["status"] != "succeeded":
            raise StackError(f"the sync ended as {sync['status']}{reason(sync)}")
        return sync

    def how_to_look(self):
        """Commands that work as printed."""
        python, control = shlex.quote(sys.executable), self.stack.control
        stop = f"{python} {shlex.quote(os.path.abspath(__file__))} --stop {shlex.quote(str(self.stack.folder))}"
        customers, orders = (self.lake / SCHEMA / table for table in ("customers", "orders"))
        return f"""
The stack stays up.

Dashboard   {control.url}/
            user {control.key.partition(":")[0]}
            password {control.key.partition(":")[2]}

REST        curl -u {control.key} {control.url}/v1/connections/{self.connection_id}/syncs

DuckDB      {python} - <<'END'
import duckdb
from duckdb_extensions import import_extension
db = duckdb.connect()
import_extension("delta", con=db)  # elsewhere: db.execute("install delta; load delta")
db.sql("select status, count(*) orders, sum(total) total from delta_scan('{orders}')"
       " where not _fivetran_deleted group by status order by status").show()
END

Polars      {python} - <<'END'
import polars
print(polars.read_delta("{customers}").filter(~polars.col("_fivetran_deleted")).sort("id"))
END

Sync again  {python} - <<'END'
import sqlite3
with sqlite3.connect("{self.source}") as shop:
    shop.execute("update customers set city = 'Oslo', changed_at = (select max(changed_at) + 1 from customers) where id = 1")
END
            curl -u {control.key} -X POST {control.url}/v1/connections/{self.connection_id}/sync

Logs        {self.stack.folder / "logs"}

Stop        {stop}
"""


def generate(*arguments):
    command = [sys.executable, EXAMPLE / "generate.py", *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"examples/shop/generate.py failed: {done.stderr.strip()}")


def reason(sync):
    error = sync.get("error")
    return f": {error['code']}, {error['message']} ({error['hint']})" if error else ""


# ---- from start to end ----------------------------------------------------------------------------------------------


def tell(demo):
    """The whole story; returns the oracle's last result."""
    story = demo.story
    story.line(textwrap.fill(
        f"A shop's database goes into Delta tables on this disk, {demo.rows:,} rows, by a connector that is an ordinary"
        " Connector SDK project. In the middle, agent, job and connector are killed with kill -9. At the end every row"
        f" is compared with the source. All of it happens in {demo.stack.folder} and on loopback.",
        WIDTH, break_on_hyphens=False, break_long_words=False,
    ))
    demo.make_source()
    demo.start_control()
    demo.write_policy()
    demo.start_agent()
    demo.create_connection()
    demo.sync_and_kill()
    demo.come_back()
    demo.check(
        "An oracle that shares no code with Inshore reads the tables with two engines, and compares every value and"
        " type with the SQLite file."
    )
    demo.change_source()
    return demo.check("The same again: the new rows, the changes, the new column, the wider type.", demo.before)


def run(arguments):
    story = Story()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="inshore-demo-"))
    with contextlib.ExitStack() as cleanup:
        remove = cleanup.enter_context(contextlib.ExitStack())
        remove.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            stack = cleanup.enter_context(Stack(arguments.stage, folder))
            demo = Demo(stack, arguments.rows, story)
            started = time.monotonic()
            result = tell(demo)
        except (StackError, OSError, ValueError) as error:
            remove.pop_all()
            story.line()
            story.line(f"demo: failed: {error}")
            story.line(f"    logs: {folder / 'logs'}; what the connector said: {folder / 'agent/state/logs'}")
            story.line(f"    {folder} is left for you to look at: remove it when you have seen enough")
            return 1
        if arguments.keep:
            write_pids(stack)
            story.line(demo.how_to_look().rstrip())
            cleanup.pop_all()
            remove.pop_all()
        story.line()
        story.line(f"The whole story took {time.monotonic() - started:.0f} s.")
        story.line(f"demo: ok: {result.rows} rows, lost {result.lost}, duplicated {result.duplicated}, changed {result.changed}")
        return 0


def write_pids(stack):
    """What --stop has to end: process ids, each with its start time, because ids are used again."""
    pids = family([stack.control.pid, stack.agent.pid])
    (stack.folder / "pids.json").write_text(json.dumps({pid: start_time(pid) for pid in pids}))


def start_time(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def stop(folder):
    """Ends what --keep left running, and removes its folder."""
    try:
        pids = {int(pid): started for pid, started in json.loads((folder / "pids.json").read_text()).items()}
    except (OSError, ValueError):
        print(f"demo: {folder} is not the folder of a running demo", file=sys.stderr)
        return 1
    kill_family([pid for pid, started in pids.items() if started and start_time(pid) == started])
    shutil.rmtree(folder)
    print(f"demo: stopped, {folder} is removed")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", type=pathlib.Path, help="the staged product, as ./dev build leaves it")
    parser.add_argument("--rows", type=int, default=200_000, help=f"rows of the source, at least {ROWS_MIN} (200000)")
    parser.add_argument("--keep", action="store_true", help="leave the stack running, and print how to look at it")
    parser.add_argument("--stop", type=pathlib.Path, metavar="FOLDER", help="end a stack that --keep left")
    arguments = parser.parse_args()
    if arguments.stop:
        sys.exit(stop(arguments.stop))
    if not arguments.stage:
        parser.error("--stage is required")
    if arguments.rows < ROWS_MIN:
        parser.error(f"--rows must be at least {ROWS_MIN}")

    def stopped(number, _frame):
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stopped)
    try:
        sys.exit(run(arguments))
    except Stopped as signalled:
        print("\ndemo: stopped; processes and files are cleaned up", file=sys.stderr)
        sys.exit(128 + signalled.number)


if __name__ == "__main__":
    main()
