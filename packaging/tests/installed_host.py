"""What an administrator does on one host, in order: install, enrol, sync, upgrade, purge. Units run it, REST drives it."""

import ctypes
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import zipfile

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REST = "http://127.0.0.1:8080/v1"
ROWS = 1000

CONNECTOR = f'''
from fivetran_connector_sdk import Connector, Operations as op


def schema(configuration):
    return [{{"table": "readings", "primary_key": ["id"], "columns": {{"id": "LONG", "taken": "UTC_DATETIME"}}}}]


def update(configuration, state):
    run = state.get("run", 0) + 1
    for number in range({ROWS}):
        op.upsert("readings", {{"id": number, "taken": f"2026-01-0{{run}}T00:00:00.000001Z", "run": run, "text": "x" * (number % 50)}})
        if number % 400 == 399:
            op.checkpoint(state)
    op.checkpoint({{"run": run}})


connector = Connector(update=update, schema=schema)
'''

# Runs as the agent's unit does, with its hardening: what the sandbox needs works, what the unit forbids fails.
PROBE = r'''#!/bin/sh
set -eux
[ "$(id -un)" = inshore ]
grep -q '^NoNewPrivs:.1$' /proc/self/status
grep -q '^Seccomp:.2$' /proc/self/status
grep -q ' /proc/sys ro,' /proc/self/mountinfo
bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp python3 -c 'import os; assert len([p for p in os.listdir("/proc") if p.isdigit()]) <= 2'
bwrap --unshare-all --cap-drop ALL --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 /lib64 --dir /scratch --chdir /scratch /usr/bin/true
python3 -m venv /var/lib/inshore/probe && /var/lib/inshore/probe/bin/python -c 'import ctypes, ssl, sqlite3'
rm -rf /var/lib/inshore/probe
if touch /srv/x; then exit 1; fi
if touch /etc/inshore/x; then exit 1; fi
if ls /root; then exit 1; fi
if ls /var/lib/inshore-control; then exit 1; fi
if test -e /proc/1/status; then exit 1; fi
'''


class Host:
    """The steps share one machine and one test case that judges them."""

    def __init__(self, case, root, deb, newer_deb):
        self.case, self.root = case, root
        self.work = tempfile.mkdtemp(dir=root.folder)
        shutil.copy(os.path.join(REPOSITORY, "installer/install.sh"), root.file("/root/install.sh"))
        self.key = self._sign("inshore.deb", deb)
        shutil.copy(newer_deb, root.file("/root/newer.deb"))
        # A host without network: Python packages come from a folder.
        shutil.copytree(os.environ["WHEELS"], root.file("/opt/wheels"))
        root.write("/etc/pip.conf", "[global]\nno-index = true\nfind-links = /opt/wheels\n")

    def run(self):
        self.root.boot()
        self.install_starts_nothing()
        self.hardening_leaves_room_for_the_sandbox()
        self.control_plane_starts()
        token = self.agent_is_created()
        self.agent_enrols(token)
        self.unit_leaves_room_for_landlock()
        connection = self.connection_is_created()
        self.sync(connection, 1)
        self.watchdogs_are_fed()
        self.upgrade_restarts_what_runs()
        self.sync(connection, 2)
        self.purge_leaves_nothing()

    def _sign(self, name, deb):
        """Puts the package into the machine as a release would be: with checksum and signature beside it."""
        key = os.path.join(self.work, "key")
        subprocess.run(["minisign", "-GW", "-p", key + ".pub", "-s", key], check=True, capture_output=True)
        target = self.root.file(f"/root/{name}")
        shutil.copy(deb, target)
        subprocess.run(["minisign", "-SHm", target, "-s", key], check=True, capture_output=True)
        digest = subprocess.run(["sha256sum", target], check=True, capture_output=True, text=True).stdout.split()[0]
        self.root.write(f"/root/{name}.sha256", f"{digest}  {name}\n")
        with open(key + ".pub", encoding="utf-8") as file:
            return file.read().splitlines()[1]

    def installer(self, *options):
        return self.root.run("sh", "/root/install.sh", "--package", "/root/inshore.deb", "--key", self.key, *options)

    def show(self, unit, name):
        return self.root.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def start(self, unit):
        try:
            self.root.run("systemctl", "start", unit)
        except Exception as error:
            raise AssertionError(f"{error}\n{self.journal(unit)}") from error

    def journal(self, unit):
        connector = self.root.run("sh", "-c", "tail -n 40 /var/lib/inshore/logs/* 2>/dev/null || true")
        return self.root.run("journalctl", "--no-pager", "-q", "-n", "60", "-u", unit) + connector

    def install_starts_nothing(self):
        self.installer()
        for unit in ("inshore-agent", "inshore-control"):
            self.case.assertEqual(self.show(unit, "ActiveState"), "inactive", unit)
        self.root.run("systemctl", "start", "inshore-agent")
        state = [self.show("inshore-agent", name) for name in ("ActiveState", "ConditionResult", "MainPID")]
        self.case.assertEqual(state, ["inactive", "no", "0"])

    def hardening_leaves_room_for_the_sandbox(self):
        unit = self.root.read("/usr/lib/systemd/system/inshore-agent.service")
        self.root.write("/usr/local/bin/probe", PROBE, 0o755)
        changes = {"ExecStart": "/usr/local/bin/probe", "Type": "oneshot", "NotifyAccess": "none", "WatchdogSec": "0", "Restart": "no"}
        for name, value in changes.items():
            unit, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", unit)
            self.case.assertEqual(count, 1, name)
        unit = re.sub(r"(?m)^ConditionPathExists=.*$", "", unit)
        self.root.write("/etc/systemd/system/probe.service", unit)
        self.root.run("systemctl", "daemon-reload")
        self.start("probe")
        for path in ("/etc/systemd/system/probe.service", "/usr/local/bin/probe"):
            os.remove(self.root.file(path))
        self.root.run("systemctl", "daemon-reload")

    def control_plane_starts(self):
        settings = self.root.read("/etc/inshore/control.toml")
        self.root.write("/etc/inshore/control.toml", settings.replace('#http = "', 'http = "'))
        self.start("inshore-control")
        self.case.assertEqual(self.show("inshore-control", "ActiveState"), "active")
        self.login = self.root.read("/var/lib/inshore-control/api_key").strip()

    def rest(self, method, path, body=None, *options):
        settings = [f'user = "{self.login}"', f'url = "{REST}{path}"', f'request = "{method}"', "silent", "show-error", "max-time = 110"]
        if body is not None:
            settings += ['header = "Content-Type: application/json"', f"data = {json.dumps(json.dumps(body))}"]
        reply = json.loads(self.root.run("curl", "-K", "-", *options, stdin="\n".join(settings)))
        self.case.assertEqual(reply.get("code"), "Success", f"{method} {path}: {reply}")
        return reply["data"]

    def agent_is_created(self):
        self.group = self.rest("POST", "/groups", {"name": "plant"})["id"]
        place = {"group_id": self.group, "service": "inshore_files", "config": {"uri": "file:///srv/lake"}}
        self.rest("POST", "/destinations", place)
        return self.rest("POST", "/hybrid-deployment-agents", {"display_name": "edge", "group_id": self.group})["token"]

    def agent_enrols(self, token):
        self.root.write("/etc/inshore/ca.pem", self.root.read("/var/lib/inshore-control/tls/cert.pem"))
        settings = self.root.read("/etc/inshore/agent.toml").replace("#tls_ca_file", "tls_ca_file")
        self.root.write("/etc/inshore/agent.toml", settings)
        policy = self.root.read("/etc/inshore/policy.toml")
        for line in ("destinations = ", "connectors = "):
            policy = policy.replace("#" + line, line)
        policy = policy.replace('connectors = "listed"', 'connectors = "any"')
        self.root.write("/etc/inshore/policy.toml", policy)
        self.root.run("install", "-d", "-o", "inshore", "-g", "inshore", "-m", "0750", "/srv/lake")
        drop_in = "/etc/systemd/system/inshore-agent.service.d/lake.conf"
        example = "/usr/share/doc/inshore/examples/lake-on-local-disk.conf"
        self.root.run("install", "-D", "-m", "0644", example, drop_in)
        self.root.run("systemctl", "daemon-reload")
        self.root.write("/root/token", token, 0o600)
        self.installer("--token-file", "/root/token")
        self.case.assertEqual(self.root.read("/etc/inshore/policy.toml"), policy)
        self.case.assertEqual(self.show("inshore-agent", "ActiveState"), "active", self.journal("inshore-agent"))
        self.case.assertEqual(self.root.run("stat", "-c", "%U %a", "/var/lib/inshore/identity.json").strip(), "inshore 600")

    def connection_is_created(self):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("connector.py", CONNECTOR)
        with open(self.root.file("/root/connector.zip"), "wb") as file:
            file.write(archive.getvalue())
        package = self.rest("POST", "/connector-sdk/packages", None, "-F", "file=@/root/connector.zip;type=application/zip")
        wanted = {"group_id": self.group, "service": "connector_sdk", "schedule_type": "manual",
                  "config": {"schema": "plant", "package_id": package["id"]}}
        return self.rest("POST", "/connections", wanted)["id"]

    def unit_leaves_room_for_landlock(self):
        create_ruleset, version_asked = 444, 1
        version = ctypes.CDLL(None).syscall(create_ruleset, None, 0, version_asked)
        status = self.root.run("inshore", "agent", "status")
        self.case.assertIn(f"bubblewrap and landlock abi {version};" if version > 1 else "bubblewrap and no landlock;", status)

    def sync(self, connection, run):
        sync_id = self.rest("POST", f"/connections/{connection}/sync", {})["sync_id"]
        sync = self.rest("GET", f"/syncs/{sync_id}?wait=100s")
        self.case.assertEqual(sync["status"], "succeeded", f"{sync}\n{self.journal('inshore-agent')}")
        self.case.assertEqual(sync["rows"]["upserts"], ROWS)
        self.rows_are_in_the_lake(run)

    def rows_are_in_the_lake(self, run):
        import deltalake
        [log] = subprocess.run(["find", self.root.file("/srv/lake"), "-type", "d", "-name", "_delta_log"], check=True,
                               capture_output=True, text=True).stdout.split()
        table = deltalake.DeltaTable(os.path.dirname(log)).to_pyarrow_table().to_pydict()
        self.case.assertEqual(sorted(table["id"]), list(range(ROWS)))
        self.case.assertEqual(set(table["run"]), {run})
        self.case.assertEqual({taken.isoformat() for taken in table["taken"]}, {f"2026-01-0{run}T00:00:00.000001+00:00"})
        self.case.assertEqual(sorted(zip(table["id"], table["text"])), [(number, "x" * (number % 50)) for number in range(ROWS)])

    def watchdogs_are_fed(self):
        """Each unit tells systemd that it lives well within WatchdogSec; else it would be killed again and again."""
        hungry, deadline = {"inshore-control", "inshore-agent"}, time.monotonic() + 16
        while hungry and time.monotonic() < deadline:
            hungry = {unit for unit in hungry if self.fed_after_start_s(unit) < 0.1}
            time.sleep(0.2)
        self.case.assertEqual(hungry, set(), "these units do not feed their watchdog")

    def fed_after_start_s(self, unit):
        fed, started = (int(self.show(unit, f"{name}TimestampMonotonic")) for name in ("Watchdog", "ActiveEnter"))
        return (fed - started) / 1e6

    def upgrade_restarts_what_runs(self):
        before = self.show("inshore-agent", "MainPID")
        self.root.run("dpkg", "--force-confold", "-i", "/root/newer.deb")
        self.case.assertNotEqual(self.show("inshore-agent", "MainPID"), before)
        for unit in ("inshore-agent", "inshore-control"):
            self.case.assertEqual(self.show(unit, "ActiveState"), "active", unit)
        self.case.assertIn('\ntls_ca_file = "/etc/inshore/ca.pem"', self.root.read("/etc/inshore/agent.toml"))

    def purge_leaves_nothing(self):
        self.root.run("dpkg", "--purge", "inshore")
        places = ["find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/var/lib/dpkg", "-o", "-path", "/var/log", "-o",
                  "-path", "/root", "-o", "-path", "/var/cache/apt", "-o", "-path", "/srv/lake", ")", "-prune", "-o", "-name", "*inshore*", "-print"]
        self.case.assertEqual(self.root.run(*places), "")
        self.case.assertTrue(os.listdir(self.root.file("/srv/lake")), "the lake is the administrator's")
        self.case.assertEqual(self.root.run("systemctl", "list-units", "--all", "--no-legend", "--plain", "inshore*").strip(), "")
        self.case.assertEqual(self.root.run("sh", "-c", "grep -h inshore /etc/passwd /etc/group /etc/shadow /etc/gshadow || true"), "")
        running = self.root.run("sh", "-c", "cat /proc/[0-9]*/comm")
        self.case.assertNotIn("inshore", running)
