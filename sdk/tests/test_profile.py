"""`--profile` and `--simulate hybrid` on the connector's side: times by table, and checkpoints that are not waited for
for ever."""

import json
import os
import tempfile
import time
import unittest

from peer import CHECKPOINT, END, FAILED, WARNING, Run, staged_sdk

SDK = staged_sdk()
HEAD = "from fivetran_connector_sdk import Connector, Operations as op\nimport threading, time\n"
TAIL = "\nconnector = Connector(update=update)\n"


def profiled(code, **more):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "profile.json")
        run = Run(SDK, HEAD + code + TAIL, environment={"INSHORE_PROFILE": path}, **more)
        with open(path) as file:
            noted = json.load(file)
    return run, noted, {table["table"]: table["times"] for table in noted["tables"]}


def seconds(nanos):
    return nanos / 1e9


class Profile(unittest.TestCase):
    def test_time_counts_for_the_table_that_it_was_for(self):
        code = """
time.sleep(0.1)

def update(configuration, state):
    for i in range(3):
        time.sleep(0.1)
        op.upsert("slow", {"id": i})
    for i in range(2000):
        op.upsert(table="fast", data={"id": i}, schema="s")
    op.checkpoint({})
    time.sleep(0.2)
"""
        run, noted, tables = profiled(code)
        self.assertEqual(run.frames[-1][0], END)
        self.assertEqual((tables["slow"][0], tables["s.fast"][0]), (3, 2000))
        self.assertGreater(seconds(tables["slow"][1]), 0.29)
        # What follows the last row is for its table.
        self.assertGreater(seconds(tables["s.fast"][1]), 0.19)
        self.assertGreater(tables["s.fast"][2], tables["slow"][2])
        # The wait is shared out by rows.
        self.assertGreater(tables["s.fast"][4], tables["slow"][4])
        self.assertGreater(seconds(noted["phases"]["import"]), 0.09)
        self.assertEqual(noted["threads"], 1)
        self.assertGreater(noted["peak_bytes"], 5 << 20)
        self.assertLess(sum(seconds(sum(times[1:])) for times in tables.values()), seconds(noted["wall_ns"]) + 0.01)

    def test_back_pressure_is_no_encoding(self):
        # The peer reads slowly only while it parses; 48 MiB do not fit into the queue.
        code = """
def update(configuration, state):
    for i in range(48):
        op.upsert("t", {"id": i, "text": "x" * (1 << 20)})
"""
        _, _, tables = profiled(code)
        self.assertGreater(tables["t"][3], 0)

    def test_threads_are_counted_and_errors_leave_their_times(self):
        code = """
def update(configuration, state):
    def work():
        op.upsert("t", {"id": 1})
    threads = [threading.Thread(target=work) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    try:
        op.upsert("t", None)
    except AttributeError:
        pass
    op.upsert("t", {"id": 2})
    raise ValueError("late")
"""
        run, noted, tables = profiled(code)
        self.assertEqual(run.frames[-1][0], FAILED)
        self.assertIn("ValueError: late", run.failure()["trace"])
        self.assertEqual((tables["t"][0], noted["threads"]), (3, 3))

    def test_nothing_is_wrapped_and_the_variable_is_hidden(self):
        code = """
import os
def update(configuration, state):
    op.warning(str("INSHORE_PROFILE" in os.environ))
"""
        run, _, _ = profiled(code)
        self.assertEqual(run.payloads(WARNING)[0]["message"], "False")
        plain = Run(SDK, HEAD + "def update(configuration, state):\n    op.warning(op.upsert.__name__)" + TAIL)
        self.assertEqual(plain.payloads(WARNING)[0]["message"], "upsert")


class CheckpointTimeout(unittest.TestCase):
    CODE = """
def update(configuration, state):
    try:
        op.checkpoint({"n": 1})
    except TimeoutError as error:
        op.warning(str(error))
"""

    def test_a_checkpoint_that_is_not_confirmed_raises(self):
        began = time.monotonic()
        run = Run(SDK, HEAD + self.CODE + TAIL, acknowledge_after=WARNING, checkpoint_timeout_ms=700)
        self.assertEqual(run.payloads(WARNING)[0]["message"], "the checkpoint was not confirmed within 1 seconds")
        self.assertEqual((len(run.payloads(CHECKPOINT)), run.frames[-1][0]), (1, END))
        self.assertGreater(time.monotonic() - began, 0.9)

    def test_one_that_is_confirmed_in_time_does_not(self):
        run = Run(SDK, HEAD + self.CODE + TAIL, checkpoint_timeout_ms=120_000)
        self.assertEqual((run.payloads(WARNING), run.frames[-1][0]), ([], END))


if __name__ == "__main__":
    unittest.main()
