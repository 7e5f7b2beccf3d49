"""The demo cleans up on every path and its telling fits terminal and pipe. What it proves is proven by running it."""

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import demo
import fake_product
import stack

DEMO = pathlib.Path(demo.__file__)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class CommandTest(unittest.TestCase):
    """demo.py as a process, against programs that never finish a sync."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.stage = self.folder / "stage"
        fake_product.write(self.stage)
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()

    def start(self, *arguments):
        command = [sys.executable, DEMO, "--stage", self.stage, "--rows", "20000", *arguments]
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        return subprocess.Popen(
            [str(word) for word in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def leftovers(self):
        """Processes that run out of this test's folder."""
        found = []
        for pid in stack.process_table():
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def test_a_signal_at_any_moment_leaves_nothing_behind(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            for marker in ("1. The source", "2. The control plane", "is online"):
                with self.subTest(number=number, marker=marker):
                    process = self.start()
                    for line in process.stdout:
                        if marker in line:
                            break
                    process.send_signal(number)
                    output = process.stdout.read()
                    code = process.wait(30)
                    process.stdout.close()
                    # After the agent is online the fake refuses the next call, which may win against the signal.
                    self.assertIn(code, (128 + number, 1) if marker == "is online" else (128 + number,), output)
                    self.assertEqual(self.leftovers(), [])
                    if code == 128 + number:
                        self.assertEqual(list(self.temporary.iterdir()), [])
                    for folder in self.temporary.iterdir():
                        demo.shutil.rmtree(folder)

    def test_a_failure_exits_1_and_says_where_the_logs_are(self):
        process = self.start()
        output, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, output)
        self.assertIn("demo: failed: POST /v1/destinations: 404 NotFound_Thing", output)
        (folder,) = self.temporary.iterdir()
        self.assertIn(f"logs: {folder}/logs", output)
        self.assertTrue((folder / "logs" / "control.log").exists())
        self.assertEqual(self.leftovers(), [])
        self.assertNotIn("demo: ok", output)

    def test_stop_ends_what_keep_left_and_only_that(self):
        opened = stack.Stack(self.stage, self.temporary / "kept")
        self.addCleanup(opened.close)
        opened.control.start()
        opened.agent.configure([], [])
        opened.agent.start()
        opened.wait_online("agent_1")
        demo.write_pids(opened)
        pids = stack.family([opened.control.pid, opened.agent.pid])
        bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        done = subprocess.run([sys.executable, DEMO, "--stop", opened.folder], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        alive = {pid for pid, row in stack.process_table().items() if row[2] != "Z"}
        self.assertEqual(pids & alive, set())
        self.assertIsNone(bystander.poll())
        self.assertFalse(opened.folder.exists())

    def test_stop_refuses_a_folder_that_is_no_demo(self):
        done = subprocess.run([sys.executable, DEMO, "--stop", self.folder], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(self.folder.exists())


class StoryTest(unittest.TestCase):
    SYNC = {
        "status": "running", "stage": "extract", "rows": {"upserts": 1000, "updates": 20, "deletes": 3, "truncates": 0},
        "rows_per_s": 4321.7, "checkpoints": 2,
    }

    def test_a_pipe_gets_one_line_a_second(self):
        out = io.StringIO()
        story = demo.Story(out)
        for number in range(5):
            story.live(f"line {number}")
        story.fact("end")
        self.assertEqual(out.getvalue(), "   line 0\n   end\n")

    def test_a_terminal_has_one_line_that_is_rewritten_and_then_gone(self):
        out = Terminal()
        story = demo.Story(out)
        story.live("one")
        story.live("two")
        story.fact("end")
        self.assertEqual(out.getvalue(), "\r\x1b[K   one\r\x1b[K   two\r\x1b[K   end\n")

    def test_steps_are_numbered_and_wrapped(self):
        out = io.StringIO()
        story = demo.Story(out)
        story.step("First", "word " * 40)
        story.step("Second", "short")
        lines = out.getvalue().splitlines()
        self.assertTrue(all(len(line) <= demo.WIDTH for line in lines))
        self.assertEqual(lines[1][:9], "1. First.")
        self.assertEqual(lines[-1], "2. Second. short")

    def test_progress_tells_stage_rows_rate_and_checkpoints(self):
        self.assertEqual(
            demo.progress(self.SYNC, 200_000), "extract      1,023 of 200,000 rows, 4,322 rows/s, 2 checkpoints"
        )
        queued = {**self.SYNC, "status": "queued", "stage": None, "rows_per_s": None, "checkpoints": 1}
        self.assertEqual(demo.progress(queued), "queued       1,023 rows, 1 checkpoint")

    def test_a_failed_sync_is_told_with_its_code(self):
        error = {"code": "DST-001", "message": "the disk is full", "hint": "docs/errors/DST-001.md"}
        text = demo.reason({"error": error})
        self.assertEqual(text, ": DST-001, the disk is full (docs/errors/DST-001.md)")
        self.assertEqual(demo.reason({"error": None}), "")


if __name__ == "__main__":
    unittest.main()
