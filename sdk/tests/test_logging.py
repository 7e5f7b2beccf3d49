"""Lines of the connector's log: which are shown, and their shape under a host and outside one."""

import json
import os
import shutil
import subprocess
import sys
import unittest

import peer

PRELUDE = "from fivetran_connector_sdk import Connector, Logging as log\n"
LEVELS = ["DEBUG", "FINE", "INFO", "WARNING", "ERROR", "SEVERE", "CRITICAL"]
EVERY_LEVEL = "\n".join(f"log.{level.lower()}('at {level}')" for level in LEVELS)


class LoggingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sdk = peer.staged_sdk()
        cls.addClassCleanup(shutil.rmtree, cls.sdk)

    def lines(self, body, **settings):
        code = f"{PRELUDE}{body}\nconnector = Connector(lambda configuration, state: None)"
        run = peer.Run(self.sdk, code, **settings)
        self.assertEqual(run.payloads(peer.FAILED), [], run.output)
        return [json.loads(line) for line in run.output.splitlines()]

    def levels(self, body=EVERY_LEVEL, **settings):
        return [line["level"] for line in self.lines(body, **settings)]

    def test_production_shows_neither_debug_nor_fine(self):
        self.assertEqual(self.levels(), LEVELS[2:])
        self.assertEqual(self.levels("log.LOG_LEVEL = log.Level.DEBUG\n" + EVERY_LEVEL), LEVELS[2:])

    def test_a_debug_run_shows_everything(self):
        self.assertEqual(self.levels(debug=True), LEVELS)
        self.assertEqual(self.levels(debug=True, environment={"INSHORE_DEBUG_LOG_LEVEL": "WARNING"}), LEVELS[3:])

    def test_the_level_is_public_and_none_counts_as_info(self):
        self.assertEqual(self.levels("log.LOG_LEVEL = log.Level.SEVERE\n" + EVERY_LEVEL), LEVELS[5:])
        self.assertEqual(self.levels("log.LOG_LEVEL = None\n" + EVERY_LEVEL), LEVELS[2:])
        self.assertEqual(self.levels("assert [level.value for level in log.Level] == [1, 2, 3, 4, 5, 6, 7]"), [])

    def test_one_line_per_call_whatever_is_in_it(self):
        lines = self.lines(
            "log.info('a\\nb')\nlog.info(5)\nlog.info('\\ud800')\nlog.error('c', ValueError('d'))\n"
            "log.critical(message='e', exception='f')\nlog.severe('g', exception=None)\n"
            "def fails():\n    raise KeyError('deep')\n"
            "try:\n    fails()\nexcept KeyError as error:\n    log.error('h', error)"
        )
        messages = [line["message"] for line in lines]
        self.assertEqual(messages[:6], ["a\nb", "5", "\ud800", "c\nValueError: d", "e\nf", "g"])
        self.assertIn("KeyError: 'deep'", messages[6])
        self.assertEqual(messages[6].count('File "'), 1, "one frame of the traceback is enough")
        self.assertEqual({line["message_origin"] for line in lines}, {"connector_sdk"})

    def test_the_shape_of_a_production_line(self):
        run = peer.Run(self.sdk, PRELUDE + "log.info('text')\nconnector = Connector(lambda configuration, state: None)")
        self.assertEqual(run.output, '{"level": "INFO", "message": "text", "message_origin": "connector_sdk"}\n')

    def test_outside_a_host_lines_are_for_people(self):
        for encoding in ("utf-8", "ascii"):
            with self.subTest(encoding=encoding):
                environment = {**os.environ, "PYTHONPATH": self.sdk, "PYTHONIOENCODING": encoding}
                code = PRELUDE + "log.info('one\\ntwö')\nlog.debug('three')"
                run = subprocess.run([sys.executable, "-B", "-c", code], env=environment, capture_output=True, check=True)
                first, second = run.stdout.decode(encoding).splitlines()
                self.assertRegex(first, r"^\d\d:\d\d:\d\d\.\d{3} INFO     connector one$")
                self.assertEqual(second, " " * 33 + ("twö" if encoding == "utf-8" else "tw\\xf6"))


if __name__ == "__main__":
    unittest.main()
