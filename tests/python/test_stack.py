"""The stack starts, kills and ends whole families of processes; nothing stays behind on any path."""

import hashlib
import io
import os
import pathlib
import stat
import tempfile
import unittest
import zipfile

import fake_product
import stack
from stack import ApiError, Stack, StackError


class StackTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.stage = self.folder / "stage"
        fake_product.write(self.stage)

    def open(self):
        opened = Stack(self.stage, self.folder / "run")
        self.addCleanup(opened.close)
        return opened

    def started(self):
        opened = self.open()
        opened.control.start()
        opened.agent.configure(["file:///lake"], ["ab" * 32])
        opened.agent.start()
        opened.wait_online("agent_1")
        return opened

    def test_the_whole_life(self):
        with self.open() as opened:
            opened.control.start()
            client = opened.client
            group_id = client.create_group("g")
            token = client.create_agent("a", group_id)["token"]
            opened.agent.configure(["file:///lake"], ["ab" * 32])
            self.assertEqual(opened.agent.enrol(token), "enrolled as agent_1")
            self.assertFalse((opened.agent.folder / "join-token").exists())
            opened.agent.start()
            opened.wait_online("agent_1")
            family = stack.family([opened.control.pid, opened.agent.pid])
            self.assertEqual(len(family), 4)  # control plane, agent, job, and what the job started
        self.assertEqual(family & set(stack.process_table()), set())

    def test_kill_ends_agent_job_and_connector_and_nothing_else(self):
        opened = self.started()
        agent = opened.agent.pid
        killed = dict(opened.agent.kill())
        self.assertEqual(len(killed), 3)
        self.assertRegex(killed[agent], r"inshore agent run$")
        self.assertEqual({pid for pid, row in stack.process_table().items() if pid in killed and row[2] != "Z"}, set())
        opened.control.check()
        opened.agent.start()
        opened.wait_online("agent_1")

    def test_an_agent_that_ignores_sigterm_is_killed_with_its_family(self):
        (self.folder / "run" / "agent").mkdir(parents=True)
        (self.folder / "run" / "agent" / "stubborn").touch()
        opened = self.started()
        family = stack.family([opened.agent.pid])
        opened.close(grace=0.2)
        self.assertEqual(family & set(stack.process_table()), set())

    def test_a_job_whose_agent_is_already_dead_is_found(self):
        opened = self.started()
        family = stack.family([opened.agent.pid])
        os.kill(opened.agent.pid, 9)
        opened.agent._process.wait()
        opened.close()
        self.assertEqual(family & set(stack.process_table()), set())

    def test_a_process_that_ends_by_itself_is_told_with_its_log(self):
        opened = self.open()
        opened.control.start()
        opened.agent.configure([], [])
        (opened.agent.folder / "fails").touch()
        opened.agent.start()
        with self.assertRaisesRegex(StackError, "exit code 3.*\n.*the policy is not to my taste"):
            opened.wait_online("agent_1")

    def test_waiting_ends(self):
        with self.assertRaisesRegex(StackError, "the moon took more than 0.1 s"):
            stack.wait_until(0.1, lambda: False, "the moon")

    def test_a_missing_program_says_what_to_do(self):
        (self.stage / "usr/bin/inshore").unlink()
        with self.assertRaisesRegex(StackError, "run ./dev build"):
            Stack(self.stage, self.folder / "run")

    def test_the_client_tells_success_from_everything_else(self):
        opened = self.open()
        opened.control.start()
        client = opened.client
        with self.assertRaises(ApiError) as caught:
            client.get("/v1/nothing")
        self.assertEqual((caught.exception.status, caught.exception.code), (404, "NotFound_Thing"))
        self.assertIn("there is no such thing", str(caught.exception))
        with self.assertRaisesRegex(ApiError, "502 NotJson"):
            client.get("/html")
        with self.assertRaisesRegex(ApiError, "401 Unauthorized"):
            stack.Client(opened.control.url, "user:wrong").get("/readyz")
        opened.control.kill()
        with self.assertRaises(StackError):
            client.get("/readyz")

    def test_an_upload_arrives_as_it_was_sent(self):
        opened = self.open()
        opened.control.start()
        content = bytes(range(256)) * 3 + b"\r\n--\r\n"
        data = opened.client.upload("/v1/connector-sdk/packages", "shop.zip", content)
        self.assertEqual((data["name"], data["file"]), ("file", "shop.zip"))
        self.assertEqual(data["file_sha256_hash"], hashlib.sha256(content).hexdigest())

    def test_a_control_plane_keeps_its_address_over_a_restart(self):
        opened = self.open()
        opened.control.start()
        url = opened.control.url
        opened.control.kill()
        opened.control.start()
        self.assertEqual(opened.control.url, url)


class PackTest(unittest.TestCase):
    def test_the_same_files_give_the_same_bytes_without_what_stays_at_home(self):
        with tempfile.TemporaryDirectory() as name:
            project = pathlib.Path(name)
            for file in ["connector.py", "z/a.py", "__pycache__/x.pyc", ".git/config", "files/state.json", ".env"]:
                (project / file).parent.mkdir(exist_ok=True)
                (project / file).write_text(file)
            (project / "configuration.json").write_text('{"password": "x"}')
            first = stack.pack(project)
            os.utime(project / "connector.py", (1, 1))
            (project / "connector.py").chmod(stat.S_IRUSR)
            self.assertEqual(stack.pack(project), first)
            with zipfile.ZipFile(io.BytesIO(first)) as archive:
                self.assertEqual(archive.namelist(), ["connector.py", "z/a.py"])

    def test_toml_strings_are_quoted(self):
        self.assertEqual(stack.toml('a"b\\c\n'), '"a\\"b\\\\c\\n"')


if __name__ == "__main__":
    unittest.main()
