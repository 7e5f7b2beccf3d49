"""Runs recipes through a control plane, an agent and a lake, all started here: each recipe is a connection of its own.

Only for recipes that need neither servers nor variables: a connector on an agent sees what its connection gives it.
"""

import json
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

from recipes import CorpusError  # noqa: E402
from stack import Stack, StackError, pack  # noqa: E402
from tables import lake_tables  # noqa: E402

ENDED = ("succeeded", "failed", "failed_with_task", "rescheduled", "cancelled")
WAIT_SECONDS = 20
PREPARE_SECONDS = 600  # the first sync of a connection builds its environment


class Failed(Exception):
    """The product could not run a recipe at all."""


class ThroughAgent:
    """One stack for all recipes; leave the `with`, and nothing of it runs."""

    def __init__(self, stage, corpus):
        self.folder = corpus.scratch / "agent"
        # A short path, as on a real host: programs put sockets below a connector's HOME (gpg does), at most 107 bytes long.
        self._stack = Stack(stage, tempfile.mkdtemp(prefix="ic-"))
        self.lake = self._stack.folder / "lake"
        self._group = self._destination = None

    def __enter__(self):
        self._stack.__enter__()
        try:
            self._start()
        except BaseException:
            self._stack.close(1)
            raise
        return self

    def __exit__(self, failure, *rest):
        print(f"logs and lake: {self._stack.folder}", file=sys.stderr)
        return self._stack.__exit__(failure, *rest)

    def _start(self):
        self.lake.mkdir(parents=True)
        stack = self._stack
        stack.control.start()
        client = stack.client
        self._group = client.create_group("corpus")
        self._destination = client.create_destination(self._group, self.lake.as_uri())
        joined = client.create_agent("corpus", self._group)
        stack.agent.configure([self.lake.as_uri()], [], more="allow_source_builds = true\n")
        policy = stack.agent.policy.read_text().replace('connectors = "listed"', 'connectors = "any"')
        stack.agent.policy.write_text(policy)
        stack.agent.enrol(joined["token"])
        stack.agent.start()
        stack.wait_online(joined["id"])

    def run(self, recipe):
        """Returns the tables and the outcome of every sync; what the state is, the agent tells nobody."""
        if not recipe.needs_nothing_else:
            raise CorpusError(f"{recipe.name} needs servers or variables: not through an agent")
        project = recipe.copy(self.folder / recipe.name / "project")
        client = self._stack.client
        try:
            package = client.upload("/v1/connector-sdk/packages", f"{recipe.name}.zip", pack(project))["id"]
            connection = self._connect(recipe, package)
            outcomes = []
            for number in range(1, recipe.syncs + 1):
                recipe.before(number)
                if number > 1 and recipe.configuration(number) != recipe.configuration(number - 1):
                    raise CorpusError(f"{recipe.name} changes its configuration between syncs: not through an agent")
                outcomes.append((self._sync(recipe, connection), None))
        except StackError as error:
            raise Failed(str(error)) from error
        return lake_tables(self.lake, recipe.name), outcomes

    def _connect(self, recipe, package):
        settings = [{"key": key, "value": value} for key, value in recipe.configuration(1).items()]
        config = {"schema": recipe.name, "package_id": package, "secrets_list": settings}
        if recipe.python:
            config["python_version"] = recipe.python
        body = {"group_id": self._group, "service": "connector_sdk", "schedule_type": "manual", "config": config}
        return self._stack.client.post("/v1/connections", body)["id"]

    def _sync(self, recipe, connection):
        client = self._stack.client
        sync_id = client.start_sync(connection)
        deadline = time.monotonic() + recipe.seconds + PREPARE_SECONDS
        while True:
            sync = client.sync(connection, sync_id, WAIT_SECONDS)
            if sync["status"] in ENDED:
                break
            self._stack.check()
            if time.monotonic() > deadline:
                raise Failed(f"the sync did not end; it is {sync['status']}")
        error = sync.get("error")
        if error and error["code"].startswith(("PKG-", "AGT-", "CHN-", "CFG-", "POL-")):
            raise Failed(f"{error['code']}: {error['message']} {self._last_words(connection)}")
        return sync["status"] == "succeeded"

    def _last_words(self, connection):
        journal = self._stack.agent.state / "logs" / f"{connection}.jsonl"
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
        return json.loads(lines[-1]).get("message", "")[:300] if lines else ""
