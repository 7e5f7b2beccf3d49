"""Runs projects through a control plane, an agent and a lake: every project is a connection of one stack."""

import hashlib
import json
import pathlib
import tempfile

import deltalake
import pyarrow

import lake_files
from debug import short, table_found
from stack import Stack, pack

SYNC_SECONDS = 120
ENDED = ("succeeded", "failed", "failed_with_task", "rescheduled", "cancelled")


class Lake:
    """A running stack that knows the packages of all projects."""

    def __init__(self, stage, folder, projects):
        self.stack = Stack(stage, folder)
        self.lake = self.stack.folder / "lake"
        self.lake.mkdir()
        self._packages = {project.name: packed(project) for project in projects}

    def __enter__(self):
        self.stack.control.start()
        digests = sorted({hashlib.sha256(package).hexdigest() for package in self._packages.values()})
        self.stack.agent.configure([self.lake.as_uri()], digests)
        client = self.stack.client
        self._group = client.create_group("conformance")
        enrolled = client.create_agent("conformance", self._group)
        self.stack.agent.enrol(enrolled["token"])
        self.stack.agent.start()
        self.stack.wait_online(enrolled["id"])
        client.create_destination(self._group, self.lake.as_uri())
        return self

    def __exit__(self, *failure):
        return self.stack.__exit__(*failure)

    def run(self, project):
        """All syncs of a project. Returns (tables, state, code of the last sync's failure, the connector's journal)."""
        client = self.stack.client
        package = client.upload("/v1/connector-sdk/packages", f"{project.name}.zip", self._packages[project.name])
        connection = client.create_connection(
            self._group, project.name, package["id"], project.configuration(1),
            destination_schema_names=f"{project.first.naming}_NAMING",
        )
        if project.first.inference != "compatible":
            client.patch(f"/v1/connections/{connection}", {"config": {"inference": project.first.inference}})
        code = None
        for sync in range(1, project.syncs + 1):
            if code:
                raise AssertionError(f"sync {sync - 1} failed: {code}\n{self._journal(connection)[-2000:]}")
            if sync > 1:
                settings = [{"key": key, "value": value} for key, value in project.configuration(sync).items()]
                client.patch(f"/v1/connections/{connection}", {"config": {"secrets_list": settings}})
            ended = client.sync(connection, client.start_sync(connection), SYNC_SECONDS)
            if ended["status"] not in ENDED:
                raise AssertionError(f"sync {sync} did not end within {SYNC_SECONDS} s")
            code = ended["error"]["code"] if ended["status"] != "succeeded" else None
        tables = {}
        for log in sorted(self.lake.glob(f"{project.name}*/*/_delta_log")):
            schema, table = log.parent.parent.name, log.parent.name
            if schema == project.name or schema.startswith(f"{project.name}_") and schema not in self._packages:
                tables[short(project.name, schema, table)] = read(log.parent)
        return tables, state(self.lake / "_inshore" / connection), code, self._journal(connection)

    def _journal(self, connection):
        path = self.stack.agent.state / "logs" / f"{connection}.jsonl"
        return path.read_text(errors="replace") if path.exists() else ""

    def orphans(self):
        """Files of the lake that nobody needs."""
        return lake_files.look(self.lake)[1]


def packed(project):
    with tempfile.TemporaryDirectory() as folder:
        project.write(pathlib.Path(folder))
        return pack(folder)


def read(path):
    table = deltalake.DeltaTable(path)
    marks = {field.name: field.metadata.get("inshore.type") for field in table.schema().fields}
    rows = deltalake.QueryBuilder().register("t", table).execute("select * from t").read_all()
    return table_found(pyarrow.table(rows), marks)


def state(chain):
    """The state of the last entry that has one."""
    said = {}
    for entry in sorted((chain / "chain").glob("*.json")):
        said = json.loads(entry.read_bytes().split(b"\n", 1)[0]).get("state") or said
    if not said:
        return {}
    return json.loads(said["inline"] if "inline" in said else (chain / "state" / said["object"]["name"]).read_text())
