"""Operations from many threads: the order of each, what a checkpoint covers, and whom it keeps waiting."""

import shutil
import unittest

import peer

PRELUDE = """
import threading
from fivetran_connector_sdk import Connector, Operations as op

def together(*functions):
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


class ThreadsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sdk = peer.staged_sdk()
        cls.addClassCleanup(shutil.rmtree, cls.sdk)

    def run_code(self, code, **settings):
        run = peer.Run(self.sdk, PRELUDE + code + "\nconnector = Connector(update)\n", **settings)
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        return run

    def test_eight_threads_keep_their_order_and_every_checkpoint_covers_all_before_it(self):
        run = self.run_code(
            """
def update(configuration, state):
    done = [-1] * 8
    def work(thread):
        for number in range(600):
            op.upsert(f"t{number % 3}", {"thread": thread, "number": number, f"extra{thread}": "x" * 50})
            done[thread] = number
            if number % 100 == 99:
                op.checkpoint({"thread": thread, "seen": list(done)})
    together(*(lambda thread=thread: work(thread) for thread in range(8)))
"""
        )
        emitted = {thread: [-1] for thread in range(8)}
        by_table = {}
        checkpoints = 0
        for kind, payload in run.frames:
            if kind == peer.CHECKPOINT:
                checkpoints += 1
                for thread, number in enumerate(payload["state"]["seen"]):
                    self.assertLessEqual(number, max(emitted[thread]), "a row from before the checkpoint came after it")
            if kind == peer.ROWS:
                for row in peer.values(payload):
                    emitted[row["thread"]].append(row["number"])
                    key = row["thread"], row["number"] % 3
                    self.assertLess(by_table.get(key, -1), row["number"], "rows of one thread changed their order")
                    by_table[key] = row["number"]
        self.assertEqual(checkpoints, 48)
        self.assertTrue(all(sorted(numbers) == list(range(-1, 600)) for numbers in emitted.values()))

    def test_a_checkpoint_keeps_only_its_caller_waiting(self):
        # The peer answers the first checkpoint only after it has seen the row that the other thread emits meanwhile.
        run = self.run_code(
            """
def update(configuration, state):
    def other():
        before.wait()
        for number in range(200_000):
            op.upsert("other", {"number": number, "text": "x" * 10})
    before = threading.Event()
    def waiting():
        op.upsert("t", {"a": 1})
        before.set()
        op.checkpoint({"first": True})
    together(waiting, other)
""",
            acknowledge_after=peer.ROWS,
        )
        kinds = [kind for kind, _ in run.frames]
        checkpoint = kinds.index(peer.CHECKPOINT)
        self.assertIn(peer.ROWS, kinds[checkpoint + 1 :])

    def test_errors_reach_the_thread_that_caused_them(self):
        run = self.run_code(
            """
def update(configuration, state):
    caught = []
    def wrong():
        try:
            op.upsert("t", {5: 1})
        except TypeError as error:
            caught.append(error)
    together(*[wrong] * 8)
    assert len(caught) == 8
    op.upsert("t", {"a": 1})
"""
        )
        self.assertEqual(run.values(), [{"a": 1}])

    def test_a_dict_that_another_thread_changes_gives_whole_rows_or_an_error(self):
        run = self.run_code(
            """
def update(configuration, state):
    row, stop, counts = {"a": 0}, threading.Event(), [0, 0]
    def change():
        number = 0
        while not stop.is_set():
            number += 1
            row[f"k{number % 40}"] = number
            row.pop(f"k{(number + 20) % 40}", None)
    def emit():
        for _ in range(5000):
            try:
                op.upsert("t", row)
                counts[0] += 1
            except RuntimeError:
                counts[1] += 1
        stop.set()
    together(change, emit)
    op.checkpoint({"rows": counts[0]})
"""
        )
        (checkpoint,) = run.payloads(peer.CHECKPOINT)
        self.assertEqual(len(run.values()), checkpoint["state"]["rows"])


if __name__ == "__main__":
    unittest.main()
