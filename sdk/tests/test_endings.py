"""How a sync ends, and what project code finds around it: its module, its folder, its names beside ours."""

import shutil
import textwrap
import unittest

import peer

PRELUDE = "import os, sys\nfrom fivetran_connector_sdk import Connector, Operations as op\n"


class EndingsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sdk = peer.staged_sdk()
        cls.addClassCleanup(shutil.rmtree, cls.sdk)

    def update(self, body, **settings):
        body = textwrap.indent(textwrap.dedent(body), "    ")
        code = f"{PRELUDE}def update(configuration, state):\n{body}\nconnector = Connector(update)"
        return peer.Run(self.sdk, code, **settings)

    def test_leaving_with_success_commits_with_a_warning(self):
        for leave in ("sys.exit()", "sys.exit(0)", "raise SystemExit", "yield op.upsert('t', {'a': 2})\nsys.exit(0)"):
            with self.subTest(leave=leave):
                run = self.update(f"op.upsert('t', {{'a': 1}})\n{leave}")
                self.assertEqual(run.payloads(peer.END), [{"exit": "exited"}], run.output)
                self.assertEqual(run.values()[0], {"a": 1})
                self.assertEqual([warning["topic"] for warning in run.payloads(peer.WARNING)], ["exited"])

    def test_every_other_way_out_is_a_failure_and_sends_nothing_more(self):
        cases = [
            ("sys.exit(1)", "exit"), ("sys.exit('text')", "exit"), ("raise KeyboardInterrupt", "interrupted"),
            ("raise ValueError('no')", "raised"), ("raise BaseException('no')", "raised"), ("raise MemoryError", "memory"),
            ("def deep(): deep()\ndeep()", "raised"), ("exec('x =')", "syntax"),
            ("class Odd(Exception):\n    def __str__(self): raise self\nraise Odd", "raised"),
            ("yield op.upsert('t', {'a': 3})\nraise ValueError('no')", "raised"),
        ]  # fmt: skip
        for body, kind in cases:
            with self.subTest(body=body):
                run = self.update(f"op.upsert('t', {{'a': 1}})\nop.checkpoint({{'n': 1}})\nop.upsert('t', {{'a': 2}})\n{body}")
                self.assertEqual(run.failure()["kind"], kind, run.output)
                self.assertLessEqual(len(run.failure()["trace"]), 64 * 1024)
                self.assertEqual(run.payloads(peer.END), [])
                self.assertEqual(run.values(), [{"a": 1}])
                self.assertEqual([payload["state"] for payload in run.payloads(peer.CHECKPOINT)], [{"n": 1}])
                self.assertNotEqual(run.exit, 0)

    def test_a_process_that_vanishes_says_nothing(self):
        run = self.update("op.upsert('t', {'a': 1})\nos._exit(0)")
        self.assertEqual((run.rows(), run.payloads(peer.END), run.payloads(peer.FAILED)), ([], [], []))

    def test_a_traceback_begins_in_the_project(self):
        run = self.update("def inner():\n    raise KeyError('deep')\ninner()")
        trace = run.failure()["trace"]
        self.assertIn("in inner", trace)
        self.assertNotIn("inshore_host.py", trace)

    def test_a_project_that_cannot_be_loaded(self):
        cases = [
            ("def update(:", "syntax"), ("import no_such_module", "raised"), ("x = 1", "no_object"),
            ("connector = 5", "no_object"), ("from fivetran_connector_sdk import Connector as connector", "no_object"),
            (PRELUDE + "other = Connector(print)", "no_object"), ("raise SystemExit(0)", "exit"),
        ]  # fmt: skip
        for code, kind in cases:
            with self.subTest(code=code):
                self.assertEqual(peer.Run(self.sdk, code).failure()["kind"], kind)

    def test_what_code_finds_around_it(self):
        run = peer.Run(
            self.sdk,
            PRELUDE
            + textwrap.dedent(
                """
                assert __name__ == "connector" and sys.modules["connector"].__dict__ is globals()
                assert os.path.dirname(os.path.realpath(__file__)) == os.path.realpath(os.getcwd())
                assert sys.path[-1] == os.path.dirname(__file__)
                assert sys.stdin.read() == ""
                with open("helper.py", "w") as file:
                    file.write("from connector import SHARED")
                SHARED = object()
                import helper
                assert helper.SHARED is SHARED
                connector = Connector(lambda configuration, state: None)
                """
            ),
        )
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)

    def test_names_of_the_project_never_stand_in_for_ours_nor_ours_for_its_own(self):
        run = peer.Run(
            self.sdk,
            textwrap.dedent(
                """
                import os, sys
                ours = ["fivetran_connector_sdk", "_inshore", "inshore_schema", "inshore_host", "json"]
                theirs = ["operations", "form_field", "limits", "local", "constants", "logger", "tools", "test_local"]
                for name in ours + theirs:
                    with open(name + ".py", "w") as file:
                        file.write("OWN = True")
                from fivetran_connector_sdk import Connector, Operations as op
                import json
                assert not hasattr(json, "OWN")
                for name in theirs:
                    assert __import__(name).OWN, name
                def update(configuration, state):
                    op.upsert("t", {"a": 1})
                connector = Connector(update, lambda configuration: [{"table": "t", "primary_key": ["a"]}])
                """
            ),
        )
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        self.assertEqual(run.values(), [{"a": 1}])

    def test_a_state_goes_around_as_json(self):
        run = self.update("op.checkpoint({1: (1, 2), 'none': None, 'text': 'é', None: True})")
        (checkpoint,) = run.payloads(peer.CHECKPOINT)
        self.assertEqual(checkpoint["state"], {"1": [1, 2], "none": None, "text": "é", "null": True})
        again = self.update("op.checkpoint(state)", state=checkpoint["state"])
        self.assertEqual(again.payloads(peer.CHECKPOINT)[0]["state"], checkpoint["state"])

    def test_a_forked_child_emits_nothing_and_hurts_nobody(self):
        run = self.update(
            """
            op.upsert("t", {"a": 1})
            child = os.fork()
            if child == 0:
                try:
                    op.upsert("t", {"a": 2})
                except RuntimeError:
                    os._exit(7)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            op.upsert("t", {"a": 3})
            """
        )
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        self.assertEqual(run.values(), [{"a": 1}, {"a": 3}])

    def test_closed_standard_streams_end_nothing(self):
        run = self.update("sys.stdout.close()\nos.close(0)\nop.upsert('t', {'a': 1})")
        self.assertEqual(run.values(), [{"a": 1}], run.output)
        self.assertEqual(run.payloads(peer.END), [{"exit": "finished"}], run.output)


if __name__ == "__main__":
    unittest.main()
