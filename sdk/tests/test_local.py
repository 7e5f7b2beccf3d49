"""`connector.debug()` and `connector.run()` in a developer's own process, against a command that notes what it was given;
and what they do under a host."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import unittest

import peer

COMMAND = """#!{python}
import json, os, stat, sys
given = dict(zip(sys.argv[3::2], sys.argv[4::2]))
files = {{flag: given[flag] for flag in ("--configuration", "--state") if flag in given}}
note = {{
    "arguments": sys.argv[1:3], "flags": given, "level": os.environ.get("INSHORE_DEBUG_LOG_LEVEL"),
    "contents": {{flag: json.load(open(path)) for flag, path in files.items()}},
    "modes": sorted({{stat.S_IMODE(os.stat(p).st_mode) for path in files.values() for p in (path, os.path.dirname(path))}}),
    "environment": " ".join(os.environ.values()),
}}
with open({notes!r}, "a") as file:
    file.write(json.dumps(note) + "\\n")
sys.stderr.write("a line of the run\\n")
sys.exit(int(os.environ.get("FAKE_STATUS", "0")))
"""

PROJECT = """
import io, os, sys
from fivetran_connector_sdk import Connector, Logging
def update(configuration, state):
    raise AssertionError("not in this process")
connector = Connector(update=update)
if __name__ == "__main__":
    {body}
"""


class LocalTest(unittest.TestCase):
    """Laid out as it is installed: <prefix>/bin/inshore, <prefix>/lib/inshore/sdk."""

    def setUp(self):
        prefix = tempfile.TemporaryDirectory()
        self.addCleanup(prefix.cleanup)
        self.prefix = os.path.realpath(prefix.name)
        self.sdk = os.path.join(self.prefix, "lib", "inshore", "sdk")
        shutil.copytree(self.staged, self.sdk)
        self.notes = os.path.join(self.prefix, "notes")
        self.command = os.path.join(self.prefix, "bin", "inshore")
        self.place(self.command)
        self.project = os.path.join(self.prefix, "project")
        os.mkdir(self.project)

    @classmethod
    def setUpClass(cls):
        cls.staged = peer.staged_sdk()
        cls.addClassCleanup(shutil.rmtree, cls.staged)

    def place(self, command):
        os.makedirs(os.path.dirname(command))
        with open(command, "w") as file:
            file.write(COMMAND.format(python=sys.executable, notes=self.notes))
        os.chmod(command, 0o755)

    def python(self, body, status=0, **environment):
        with open(os.path.join(self.project, "connector.py"), "w") as file:
            file.write(PROJECT.format(body=textwrap.indent(textwrap.dedent(body), "    ").strip()))
        surroundings = {**os.environ, "PYTHONPATH": self.sdk, "FAKE_STATUS": str(status), **environment}
        command = [sys.executable, "-B", os.path.join(self.project, "connector.py")]
        return subprocess.run(command, env=surroundings, cwd=self.prefix, capture_output=True, text=True, timeout=60)

    def noted(self):
        with open(self.notes) as file:
            return [json.loads(line) for line in file]

    def test_debug_runs_the_project_that_called_it(self):
        run = self.python("assert connector.debug() is None\nprint('after', connector.project_path == os.path.dirname(os.path.abspath(__file__)))")
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "after True\n", "a line of the run\n"))
        (note,) = self.noted()
        self.assertEqual((note["arguments"], note["flags"], note["level"]), (["debug", self.project], {}, "DEBUG"))

    def test_configuration_and_state_go_by_private_files_that_do_not_stay(self):
        secret = "s3cret-value"
        run = self.python(
            f"""
            connector.debug(configuration={{"key": "{secret}"}}, state={{"cursor": 1}}, naming="SOURCE_NAMING",
                            log_level=Logging.Level.WARNING)
            """
        )
        self.assertEqual(run.returncode, 0, run.stderr)
        (note,) = self.noted()
        self.assertEqual(note["contents"], {"--configuration": {"key": secret}, "--state": {"cursor": 1}})
        self.assertEqual(note["modes"], [stat.S_IRUSR | stat.S_IWUSR, stat.S_IRWXU])
        self.assertEqual((note["flags"]["--naming"], note["level"]), ("SOURCE", "WARNING"))
        self.assertFalse(os.path.exists(note["flags"]["--configuration"]))
        self.assertNotIn(secret, json.dumps(note["flags"]) + note["environment"])

    def test_an_empty_state_is_that_of_the_project_and_an_empty_configuration_is_empty(self):
        self.assertEqual(self.python("connector.debug(os.path.dirname(__file__), {}, {})").returncode, 0)
        self.assertEqual(self.noted()[0]["contents"], {"--configuration": {}})

    def test_a_state_file_can_be_named(self):
        path = os.path.join(self.prefix, "state.json")
        with open(path, "w") as file:
            file.write('{"a": 1}')
        self.assertEqual(self.python(f"connector.debug(state_path={path!r})").returncode, 0)
        self.assertEqual(self.noted()[0]["contents"], {"--state": {"a": 1}})
        self.assertTrue(os.path.exists(path))

    def test_two_runs_in_one_process_and_a_failed_one_ends_it(self):
        self.python("connector.debug()\nconnector.debug(configuration={'n': '2'})")
        self.assertEqual([note["contents"] for note in self.noted()], [{}, {"--configuration": {"n": "2"}}])
        run = self.python("connector.debug()\nprint('not reached')", status=3)
        self.assertEqual((run.returncode, run.stdout), (3, ""))
        run = self.python("try:\n    connector.debug()\nexcept SystemExit as end:\n    print('caught', end.code)", status=1)
        self.assertEqual((run.returncode, run.stdout), (0, "caught 1\n"))

    def test_a_notebook_that_replaced_its_streams_sees_the_run(self):
        run = self.python("sys.stderr = io.StringIO()\nconnector.debug()\nprint(sys.stderr.getvalue())")
        self.assertEqual((run.stdout, run.stderr), ("a line of the run\n\n", ""))

    def test_wrong_arguments_start_nothing(self):
        cases = [
            ("connector.debug(configuration=5)", "TypeError: configuration must be a dict, not int"),
            ("connector.debug(configuration={'port': 5432})", "ValueError: configuration['port'] is a int"),
            ("connector.debug(state={'a': object()})", "TypeError"),
            ("connector.debug(project_path='/nonexistent')", "there is no connector.py in /nonexistent"),
            ("connector.debug(colour='red')", "TypeError"),
            ("connector.run()", "use `inshore debug`"),
            ("connector.run(port=50051, configuration={})", "use `inshore debug`"),
            ("connector.run(50051)", "use `inshore debug`"),
            ("connector.run(destination={'type': 'iceberg'}, project_path='.')", "needs Inshore's agent"),
            ("connector.run('catalog', state_path='x')", "needs Inshore's agent"),
            ("connector.run(ports=1)", "TypeError"),
            ("connector.deploy('.', 'key', 'group', 'connection', None)", "inshore deploy ."),
            ("connector.generate_configuration('.')", "inshore configuration ."),
        ]
        for body, expected in cases:
            with self.subTest(body=body):
                run = self.python(body)
                self.assertEqual(run.returncode, 1)
                self.assertIn(expected, run.stderr)
        self.assertFalse(os.path.exists(self.notes))

    def test_the_command_is_found_on_the_path_or_missed_clearly(self):
        elsewhere = os.path.join(self.prefix, "elsewhere", "inshore")
        self.place(elsewhere)
        os.remove(self.command)
        self.assertEqual(self.python("connector.debug()", PATH=os.path.dirname(elsewhere)).returncode, 0)
        run = self.python("connector.debug()", PATH="/nonexistent")
        self.assertIn("the command `inshore` is neither at", run.stderr)
        self.assertEqual(len(self.noted()), 1)

    def test_main_is_the_command_line(self):
        run = self.python("import fivetran_connector_sdk as sdk\nsys.argv = ['fivetran', 'debug', 'x']\nsdk.main()")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.noted()[0]["arguments"], ["debug", "x"])

    def test_under_a_host_nothing_is_started(self):
        def host(call, **start):
            code = f"""
                from fivetran_connector_sdk import Connector, Operations as op
                def update(configuration, state):
                    op.upsert("t", {{**configuration, **state}})
                connector = Connector(update)
                {call}
                if __name__ == "__main__":
                    raise AssertionError
                """
            run = peer.Run(self.sdk, code, configuration={"a": "1"}, state={"b": "2"}, **start)
            self.assertEqual(run.payloads(peer.FAILED), [], run.output)
            self.assertFalse(os.path.exists(self.notes))
            return run

        call = "connector.debug(configuration={'a': 'mine'})"
        self.assertEqual(host(call, debug=True).values(), [{"a": "mine", "b": "2"}])
        deployed = host(call)
        self.assertEqual(deployed.values(), [{"a": "1", "b": "2"}])
        self.assertIn("__main__", deployed.output)
        call = "connector.run(port=50051, configuration={}, state={'b': 'mine'})"
        self.assertEqual(host(call).values(), [{"a": "1", "b": "mine"}])
        call = "connector.run({'type': 'iceberg'}, configuration={'a': 'mine'})"
        self.assertEqual(host(call).values(), [{"a": "mine", "b": "2"}])


if __name__ == "__main__":
    unittest.main()
