"""The wall around connectors, tried from inside: the 30 probes of the escape checklist, and every way out.

Runs in a network and a mount namespace of its own, where an internet, a private network, a metadata service, a name server
and the sockets of D-Bus and container runtimes are planted. Each probe first succeeds without a sandbox; then the same code
runs as a connector of a real agent, and every one of them must be denied or bounded.

    test_isolation.py --stage target/stage
"""

import contextlib
import ctypes
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import stack  # noqa: E402

INNER = "INSHORE_ISOLATION_INNER"
INTERNET, PRIVATE, METADATA, SIX = "93.184.216.34", "10.77.0.9", "169.254.169.254", "fd77::9"
PORTS = {"internet_port": 80, "listed_port": 7001, "https_port": 8443, "other_port": 7002}
HOSTS = f"""127.0.0.1 localhost
{INTERNET} listed.example broker-7.late.example other.example
127.0.0.1 rebound.late.example
{METADATA} metadata.late.example
"""
# What the name server knows: a cluster of two brokers, one of them at a port that is not listed, and a text.
LATE = b"\4late\7example\0"
RECORDS = {
    (b"\6_kafka\4_tcp\7cluster" + LATE, 33): [struct.pack(">HHH", 1, 1, PORTS["listed_port"]) + b"\x08broker-7" + LATE,
                                     struct.pack(">HHH", 1, 1, PORTS["other_port"]) + b"\x08broker-8" + LATE],
    (b"\7cluster" + LATE, 16): [b"\x0breplica=one"],
}
SETUID_USER = 12345
SYNC_SECONDS = 120
EGRESS = [f"listed.example:{PORTS['listed_port']}", f"listed.example:{PORTS['https_port']}", f"*.late.example:{PORTS['listed_port']}"]
LIMITS = 'processes_max = 200\nscratch_bytes_max = "48MiB"\n'
MEMORY = 'connector_memory_bytes_max = "512MiB"\n'


def enter(arguments):
    """Warms the connectors' environment while there is a network, then begins again in namespaces of its own."""
    stage = arguments[arguments.index("--stage") + 1]
    with tempfile.TemporaryDirectory() as project:
        code = ("from fivetran_connector_sdk import Connector, Operations as op\n"
                "connector = Connector(update=lambda configuration, state: op.upsert('t', {'id': 1}))\n")
        pathlib.Path(project, "connector.py").write_text(code, encoding="utf-8")
        warm = subprocess.run([f"{stage}/usr/bin/inshore", "debug", project], capture_output=True, text=True, check=False)
        if warm.returncode:
            sys.exit(f"the environment could not be prepared:\n{warm.stderr}")
    if os.getuid() != 0:
        sys.exit("not root: targets cannot be planted in namespaces")
    command = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, __file__, *arguments]
    os.execvpe("unshare", command, {**os.environ, INNER: "1"})


def answer(listener, text):
    """Everybody who connects hears the text."""
    def serve():
        while True:
            stream, _ = listener.accept()
            with stream, contextlib.suppress(OSError):
                stream.settimeout(5)
                stream.recv(1024)
                stream.sendall(text)

    threading.Thread(target=serve, daemon=True).start()


class World:
    """What is planted."""

    def __init__(self, folder):
        self.folder, self.questions, self.asked = folder, 0, []
        for words in (["link", "set", "lo", "up"], *(["addr", "add", f"{at}/32", "dev", "lo"] for at in (INTERNET, PRIVATE, METADATA)),
                      ["-6", "addr", "add", f"{SIX}/128", "dev", "lo"]):
            subprocess.run(["ip", *words], check=True)
        self._mount()
        self.certificate = self._certificate()
        self._listen()
        self.victim = subprocess.Popen(["sleep", "86399.25"])

    def close(self):
        self.victim.kill()
        self.victim.wait()

    def _mount(self):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        for name, text in (("hosts", HOSTS), ("resolv.conf", f"nameserver {INTERNET}\noptions timeout:1 attempts:1\n")):
            file = self.folder / name
            file.write_text(text, encoding="utf-8")
            subprocess.run(["mount", "--bind", file, os.path.realpath(f"/etc/{name}")], check=True)

    def _certificate(self):
        key, certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=listed.example",
                        "-addext", "subjectAltName=DNS:listed.example,DNS:other.example", "-keyout", key, "-out", certificate],
                       check=True, capture_output=True)
        return certificate

    def _listen(self):
        for port in (PORTS["internet_port"], PORTS["listed_port"], PORTS["other_port"]):
            answer(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64),
                   b"HTTP/1.0 200 OK\r\n\r\nplanted")
        for path in ("/run/dbus/system_bus_socket", "/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock",
                     str(self.folder / "agent.sock"), "\0inshore-probe"):
            if path[0] == "/":
                os.makedirs(os.path.dirname(path), exist_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen()
            answer(listener, b"planted")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.folder / "key.pem")

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"planted over tls")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer((INTERNET, PORTS["https_port"]), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        names.bind((INTERNET, 53))
        threading.Thread(target=self._answer_names, args=(names,), daemon=True).start()

    def _answer_names(self, names):
        while True:
            question, sender = names.recvfrom(512)
            self.questions += 1
            end = question.index(b"\0", 12) + 5
            name, (kind,) = question[12:end - 4], struct.unpack(">H", question[end - 4:end - 2])
            self.asked.append((name, kind))
            answers = RECORDS.get((name, kind), [])
            head = question[:2] + (b"\x81\x80" if answers else b"\x81\x83") + struct.pack(">HHHH", 1, len(answers), 0, 0)
            records = [b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data for data in answers]
            names.sendto(head + question[12:end] + b"".join(records), sender)

    def targets(self, agent):
        """Where everything is. What lies beside the agent's files is planted there."""
        shared = self.folder / "shared"
        shared.mkdir(exist_ok=True)
        shutil.copy(os.path.realpath(shutil.which("id")), shared / "id")
        os.chown(shared / "id", SETUID_USER, SETUID_USER)
        os.chmod(shared / "id", 0o4755)
        planted = {"other_job": agent.folder / "spool/inshore-job-other-1/rows", "policy_secret": agent.folder / "secrets/password",
                   "outside": self.folder / "outside"}
        for path in planted.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("planted", encoding="utf-8")
        return {
            **{name: str(path) for name, path in planted.items()}, **PORTS, "identity": str(agent.state / "identity.json"),
            "pid": self.victim.pid, "command": "86399.25", "agent_socket": str(self.folder / "agent.sock"), "abstract": "inshore-probe",
            "internet": INTERNET, "private": PRIVATE, "six": SIX, "listed": "listed.example", "setuid": str(shared / "id"),
            "setuid_user": str(SETUID_USER), "outliver": "86398.75", "certificate": self.certificate.read_text(encoding="utf-8"),
        }


def running(word):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def memory_groups_work():
    """Whether a version 1 group of this process's own bounds memory and takes a process in."""
    own = re.search(r"^\d+:memory:(.*)$", pathlib.Path("/proc/self/cgroup").read_text(encoding="ascii"), re.MULTILINE)
    if not own:
        return False
    group = pathlib.Path(f"/sys/fs/cgroup/memory{own[1]}/inshore-test-{os.getpid()}")
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(1 << 30), encoding="ascii")
        (group / "cgroup.procs").write_text(str(child.pid), encoding="ascii")
        return True
    except OSError as error:
        print(f"no memory groups here: {error}", file=sys.stderr)
        return False
    finally:
        child.communicate()
        with contextlib.suppress(OSError):
            group.rmdir()


def groups_left():
    """Connectors' groups below the group of these processes; another group's are another agent's."""
    root = pathlib.Path("/sys/fs/cgroup")
    own = [line.split(":", 2)[1:] for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()]
    parents = {root / kind / path.lstrip("/") for kinds, path in own for kind in (*kinds.split(","), "unified", ".")}
    return sorted(str(group) for parent in parents for group in parent.glob("inshore-connector-*"))


def landlock():
    """The version of the kernel's Landlock; 0 or less where it has none."""
    create_ruleset, version_asked = 444, 1
    return ctypes.CDLL(None).syscall(create_ruleset, None, 0, version_asked)


class IsolationTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="inshore-isolation-")))
        cls.world = World(cls.folder)
        cls.addClassCleanup(cls.world.close)
        cls.stack = cls.enterClassContext(stack.Stack(STAGE, cls.folder / "run"))
        cls.stack.control.start()
        cls.lake = cls.folder / "lake"
        cls.lake.mkdir()
        client, package = cls.stack.client, stack.pack(HERE)
        cls.stack.agent.configure([cls.lake.as_uri()], [hashlib.sha256(package).hexdigest()], readable=[cls.folder / "shared"])
        policy = cls.stack.agent.policy.read_text(encoding="utf-8")
        policy = policy.replace("[sandbox]\n", f"[sandbox]\negress = {json.dumps(EGRESS)}\n{LIMITS}") + f"[resources]\n{MEMORY}"
        cls.stack.agent.policy.write_text(policy, encoding="utf-8")
        cache = cls.stack.agent.folder / "cache"
        cache.mkdir()
        (cache / "environments").symlink_to(pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"), "inshore/environments"))
        group = client.create_group("isolation")
        agent = client.create_agent("isolation", group)
        cls.stack.agent.enrol(agent["token"])
        cls.stack.agent.start()
        cls.stack.wait_online(agent["id"])
        client.create_destination(group, cls.lake.as_uri())
        cls.agent_id = agent["id"]
        cls.group, cls.package = group, client.upload("/v1/connector-sdk/packages", "isolation.zip", package)["id"]
        cls.targets = cls.world.targets(cls.stack.agent)

    def sync(self, what, name=None, **config):
        """One sync of a connection of its own: its end, and its journal."""
        client = self.stack.client
        settings = {"what": what, "targets": json.dumps(self.targets)}
        connection = client.create_connection(self.group, f"isolation_{name or what}", self.package, settings)
        if config:
            client.patch(f"/v1/connections/{connection}", {"config": config})
        end = client.sync(connection, client.start_sync(connection), SYNC_SECONDS)
        # What is put off shall not come back while another test looks.
        client.patch(f"/v1/connections/{connection}", {"paused": True})
        journal = (self.stack.agent.state / "logs" / f"{connection}.jsonl").read_text(encoding="utf-8")
        return end, journal

    def rows(self, what, table):
        import deltalake
        return deltalake.DeltaTable(str(self.lake / f"isolation_{what}" / table)).to_pyarrow_table().to_pylist()

    def bare(self, *arguments):
        """The same code without a sandbox, as long as it takes."""
        home = self.folder / "bare"
        home.mkdir(exist_ok=True)
        done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
                              env={**os.environ, "HOME": str(home)})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_01_to_26_every_probe_succeeds_without_a_sandbox_and_none_inside(self):
        file = self.folder / "targets.json"
        file.write_text(json.dumps(self.targets), encoding="utf-8")
        done = self.bare(HERE / "probes.py", file)
        self.assertEqual(sorted(map(int, json.loads(done.stdout))), list(range(1, 27)), done.stderr)
        questions, outside = self.world.questions, pathlib.Path(self.targets["outside"])
        self.assertGreater(questions, 0)
        text = outside.read_text(encoding="utf-8")
        self.assertEqual(text, "plantedxxx", "three probes wrote")
        end, journal = self.sync("probes")
        self.assertEqual(end["status"], "succeeded", f"{end}\n{journal}")
        got = self.lake / "isolation_probes" / "got"
        self.assertEqual(self.rows("probes", "got") if got.exists() else [], [], "got through")
        self.assertEqual((self.world.questions, outside.read_text(encoding="utf-8")), (questions, text), "something left the sandbox")
        [around] = self.rows("probes", "surroundings")
        # 3 is the listing itself.
        self.assertEqual(json.loads(around["descriptors"])[:4], [0, 1, 2, 3], around)
        self.assertNotIn(json.dumps(self.targets["policy_secret"]), around["variables"])
        # What Landlock alone refuses.
        log = self.stack.agent.log.read_text(encoding="utf-8")
        version = landlock()
        self.assertIn(f"landlock abi {version}" if version > 1 else "no landlock", log)
        self.assertEqual(around["own_program"], "PermissionError" if version > 1 else "read 4")

    def test_27_processes_are_bounded(self):
        self.bare(HERE / "bombs.py", "processes")
        end, journal = self.sync("processes")
        self.assertEqual(end["error"]["code"], "SDK-003", f"{end}\n{journal}")
        self.assertIn("sandbox.processes_max", journal)

    def test_28_memory_is_bounded(self):
        self.bare(HERE / "bombs.py", "memory")
        end, journal = self.sync("memory")
        self.assertEqual(end["error"]["code"], "SDK-004", f"{end}\n{journal}")

    def test_28_what_a_connection_names_holds_within_the_policy(self):
        self.assertGreater(os.cpu_count(), 1, "one processor shows nothing")
        resources = {"memory_bytes": 256 << 20, "cpu_percent": 100}
        end, journal = self.sync("bounds", resources=resources)
        self.assertEqual((end["status"], end["error"]["code"]), ("rescheduled", "SDK-004"), f"{end}\n{journal}")
        self.assertIn(f"the limit is {256 << 20}", journal)
        [row] = self.rows("bounds", "bounds")
        self.assertEqual((row["processors"], row["widened"]), (1, False))
        end, journal = self.sync("disk", name="small_disk", resources={"scratch_bytes": 16 << 20})
        self.assertIn(f"the limit is {16 << 20}", journal)

    def test_28_control_groups_are_used_where_the_host_has_them_and_none_is_left(self):
        log = self.stack.agent.log.read_text(encoding="utf-8")
        tested = re.search(r"sandbox tested.*", log)[0]
        print(tested, file=sys.stderr)
        if memory_groups_work():
            self.assertIn("control groups (v1)", tested, log)
        stack.wait_until(30, lambda: not groups_left(), f"the end of {groups_left()}")

    def test_29_disk_and_log_are_bounded(self):
        self.bare(HERE / "bombs.py", "disk")
        end, journal = self.sync("disk")
        self.assertEqual(end["error"]["code"], "SDK-003", f"{end}\n{journal}")
        self.assertIn("HOME and /tmp", journal)
        flood = self.bare(HERE / "bombs.py", "log").stdout.count("of a flood")
        end, journal = self.sync("log")
        self.assertEqual((end["status"], flood), ("succeeded", 20_000), end)
        self.assertLess(journal.count("of a flood"), 5_000)

    def test_30_nothing_outlives_the_job(self):
        self.bare(HERE / "bombs.py", "outlive", self.targets["outliver"])
        left = running(self.targets["outliver"])
        self.assertEqual(len(left), 1, "it lives on without a sandbox")
        os.kill(left[0], 9)
        end, journal = self.sync("outlive")
        self.assertEqual(end["status"], "succeeded", f"{end}\n{journal}")
        stack.wait_until(2, lambda: not [pid for pid in running(self.targets["outliver"]) if pid != left[0]], "the end of a daemon")

    def test_listed_places_are_reached_by_every_way_and_no_others(self):
        questions = self.world.questions
        end, journal = self.sync("egress")
        self.assertEqual(end["status"], "succeeded", f"{end}\n{journal}")
        got = {row["way"]: row["got"] for row in self.rows("egress", "egress")}
        opened = {way for way, text in got.items() if "planted" in text}
        ways = {"raw listed", "raw below suffix", "https raw", "https proxy", "http proxy", "found by service"}
        self.assertEqual(opened, ways, json.dumps(got, indent=1))
        self.assertEqual(got["found by service"][:32], f"broker-7.late.example:{PORTS['listed_port']} HTTP/1"[:32])
        self.assertNotIn("broker-8", got["found by service"])
        self.assertEqual(got["text"], str([b"\x0breplica=one"]))
        for way in ("service of another", "text of another"):
            self.assertIn("code 3", got[way])
        self.assertIn("planted over tls", got["https proxy"])
        self.assertEqual(len(got), 15)
        # The job asked these two on the sandbox's behalf; nothing else left.
        self.assertEqual(self.world.asked[questions:], list(RECORDS), "a question left the sandbox")
        for refused in ("other.example,", f"other.example:{PORTS['https_port']},", f"{INTERNET}:{PORTS['listed_port']},", "rebound.late.example:",
                        "metadata.late.example:", "_kafka._tcp.other.example,", f"broker-8.late.example:{PORTS['other_port']},"):
            self.assertIn(f"egress refused: {refused}", journal)
        self.assertNotIn("other.example", self.stack.agent.log.read_text(encoding="utf-8"))

    def test_a_connections_own_list_takes_away_from_the_policys(self):
        own = [f"listed.example:{PORTS['listed_port']}", f"other.example:{PORTS['listed_port']}"]
        end, journal = self.sync("egress", name="narrow", egress=own)
        self.assertEqual(end["status"], "succeeded", f"{end}\n{journal}")
        got = {row["way"]: row["got"] for row in self.rows("narrow", "egress")}
        opened = {way for way, text in got.items() if "planted" in text}
        self.assertEqual(opened, {"raw listed", "http proxy"}, json.dumps(got, indent=1))
        policy, connection = "the policy's sandbox.egress does not list it", "the connection's config.egress does not list it"
        self.assertIn(f"egress refused: other.example, 3 times; {policy}", journal)
        self.assertIn(f"egress refused: listed.example:{PORTS['https_port']}, 2 times; {connection}", journal)
        self.assertIn(f"egress refused: broker-7.late.example, 2 times; {connection}", journal)

    def test_a_killed_job_takes_its_sandbox_with_it(self):
        client = self.stack.client
        settings = {"what": "disk", "targets": json.dumps(self.targets)}
        connection = client.create_connection(self.group, "isolation_killed", self.package, settings)
        client.start_sync(connection)
        ours = lambda word: set(running(word)) & stack.family([self.stack.agent.pid])  # noqa: E731
        inside = stack.wait_until(60, lambda: ours("inside"), "the start of a sandbox")
        [job] = [pid for pid in ours("job") if stack.describe(pid).startswith("inshore job")]
        os.kill(job, 9)
        stack.wait_until(5, lambda: not inside & set(running("inside")), "the end of a sandbox whose job is gone")

    def test_z_a_host_without_user_namespaces_refuses_and_says_why(self):
        """Last: the agent is started again with a tool that fails as bubblewrap does where the kernel forbids it."""
        agent, words = self.stack.agent, "bwrap: No permissions to create new namespace, likely because the kernel forbids it"
        stand_in = self.folder / "bwrap"
        stand_in.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n", encoding="utf-8")
        stand_in.chmod(0o755)
        agent.stop()
        agent.config.write_text(f"bubblewrap = {json.dumps(str(stand_in))}\n{agent.config.read_text(encoding='utf-8')}", encoding="utf-8")
        agent.start()
        client = self.stack.client
        settings = {"what": "log", "targets": json.dumps(self.targets)}
        connection = client.create_connection(self.group, "isolation_refused", self.package, settings)
        self.stack.wait_online(self.agent_id)
        end = client.sync(connection, client.start_sync(connection), SYNC_SECONDS)
        self.assertEqual((end["status"], end["error"]["code"]), ("failed", "POL-003"), end)
        self.assertIn(words, agent.log.read_text(encoding="utf-8"))
        command = [f"{STAGE}/usr/bin/inshore", "agent", "status", "--config", agent.config, "--policy", agent.policy]
        shown = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout
        self.assertIn(f"every job is refused (POL-003): make the sandbox: {words}", shown)


if __name__ == "__main__":
    if INNER not in os.environ:
        enter(sys.argv[1:])
    position = sys.argv.index("--stage")
    STAGE = sys.argv[position + 1]
    del sys.argv[position : position + 2]
    unittest.main(verbosity=2)
