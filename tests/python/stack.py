"""A control plane and an agent out of a staged tree, on free loopback ports in one folder, for the demo, tests and bench.

Knows the product only by its commands, files and REST. Every process leads a session of its own and is ended on every
path: leave the `with`, and nothing runs and nothing is adopted by init.

    with Stack(stage, folder) as stack:
        stack.control.start()
        token = stack.client.create_agent("demo", group_id)["token"]
        stack.agent.configure(destinations=[uri], connector_digests=[digest])
        stack.agent.enrol(token)
        stack.agent.start()
"""

import base64
import contextlib
import ctypes
import io
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile

PR_SET_CHILD_SUBREAPER = 36
START_SECONDS = 30
STOP_SECONDS = 15
HURRY_SECONDS = 1
REQUEST_SECONDS = 130  # the longest `wait` that the control plane serves, and some more
LOG_LINES_SHOWN = 15
LEFT_OUT = {"__pycache__", "lib", "include", "files", "crash-reports", "configuration.json"}


class StackError(Exception):
    """The stack did not do what was waited for; the text is for a person."""


class ApiError(StackError):
    """An answer that is not a success."""

    def __init__(self, call, status, code, message):
        super().__init__(f"{call}: {status} {code}: {message}")
        self.status, self.code = status, code


# ---- REST -----------------------------------------------------------------------------------------------------------


class Client:
    """The control plane's REST interface, with the standard library only."""

    def __init__(self, url, key):
        self.url = url.rstrip("/")
        self._authorization = "Basic " + base64.b64encode(key.encode()).decode()
        # Loopback only: a proxy of the environment has no part in it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path):
        return self.call("GET", path)

    def post(self, path, body=None):
        return self.call("POST", path, body)

    def patch(self, path, body):
        return self.call("PATCH", path, body)

    def delete(self, path):
        return self.call("DELETE", path)

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        return self._send(method, path, data, "application/json")

    def upload(self, path, name, content, method="POST"):
        """One file as multipart/form-data."""
        boundary = secrets.token_hex(16)
        disposition = f'form-data; name="file"; filename="{name}"'
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: application/zip\r\n\r\n"
        data = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        return self._send(method, path, data, f"multipart/form-data; boundary={boundary}")

    def _send(self, method, path, data, content_type):
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Authorization", self._authorization)
        if data is not None:
            request.add_header("Content-Type", content_type)
        call = f"{method} {path}"
        try:
            with self._opener.open(request, timeout=REQUEST_SECONDS) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        except OSError as error:
            raise StackError(f"{call}: {error}") from error
        try:
            envelope = json.loads(text)
        except ValueError:
            raise ApiError(call, status, "NotJson", repr(text[:200])) from None
        if not 200 <= status < 300 or envelope.get("code") != "Success":
            raise ApiError(call, status, envelope.get("code"), envelope.get("message"))
        return envelope.get("data")

    # The few objects that every user of the stack makes.

    def create_group(self, name):
        return self.post("/v1/groups", {"name": name})["id"]

    def create_destination(self, group_id, uri):
        body = {"group_id": group_id, "service": "inshore_files", "config": {"uri": uri}}
        return self.post("/v1/destinations", body)["id"]

    def create_agent(self, name, group_id):
        body = {"display_name": name, "group_id": group_id, "env_type": "STANDALONE", "accept_terms": True}
        return self.post("/v1/hybrid-deployment-agents", body)

    def agent(self, agent_id):
        return self.get(f"/v1/hybrid-deployment-agents/{agent_id}")

    def create_connection(self, group_id, schema, package_id, settings, **fields):
        """A connection that runs only on request; `settings` is what the connector gets as its configuration."""
        secrets_list = [{"key": key, "value": value} for key, value in settings.items()]
        config = {"schema": schema, "package_id": package_id, "secrets_list": secrets_list}
        body = {"group_id": group_id, "service": "connector_sdk", "schedule_type": "manual", "config": config, **fields}
        return self.post("/v1/connections", body)["id"]

    def start_sync(self, connection_id):
        return self.post(f"/v1/connections/{connection_id}/sync")["sync_id"]

    def sync(self, connection_id, sync_id, wait_seconds=0):
        query = f"?wait={wait_seconds}s" if wait_seconds else ""
        return self.get(f"/v1/connections/{connection_id}/syncs/{sync_id}{query}")


# ---- processes ------------------------------------------------------------------------------------------------------


def process_table():
    """pid → (parent, session, state) of everything that runs."""
    table = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            # A process may end while it is looked at.
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                table[int(entry.name)] = (int(fields[1]), int(fields[3]), fields[0])
    return table


def family(roots):
    """All living descendants of the roots, whatever leads the same session as one of them, and the roots."""
    table = process_table()
    found = {pid for pid in roots if pid in table}
    while True:
        sessions = {table[pid][1] for pid in found} - {os.getsid(0)}
        more = {p for p, (parent, session, _) in table.items() if parent in found or session in sessions}
        if more <= found:
            return {pid for pid in found if table[pid][2] != "Z"}
        found |= more


def describe(pid):
    """`inshore agent run`, `inshore job`, `python3 host.py`: the first words of a command line, without its paths."""
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
    except OSError:
        return "?"
    said = [words[0]]
    for word in words[1:4]:
        if word in ("-c", "-m"):
            break
        if not word.startswith("-"):
            said.append(word)
    return " ".join(os.path.basename(word) for word in said)


def kill_family(roots):
    """SIGKILL, first to the roots, until nothing of them is left. Returns [(pid, description)]."""
    killed = {}
    known = set(roots)
    for _ in range(200):
        alive = family(known)
        if not alive:
            break
        known |= alive
        for pid in [*(pid for pid in roots if pid in alive), *(alive - set(roots))]:
            killed.setdefault(pid, describe(pid))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    reap(known - set(roots))
    return sorted(killed.items())


def reap(pids):
    """Collects the dead among `pids` that became children of this process when their parents died."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def wait_until(seconds, condition, what):
    """The first true answer of `condition`, asked again and again; StackError when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise StackError(f"{what} took more than {seconds} s")
        time.sleep(0.05)


class Daemon:
    """One of the product's processes, and its log."""

    def __init__(self, name, log, environment):
        self.name, self.log = name, log
        self._environment = environment
        self._process = None

    def start_process(self, command):
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self._environment, start_new_session=True,
            )

    @property
    def pid(self):
        return self._process.pid if self._process else None

    def check(self):
        """Raises when the process has ended by itself."""
        code = self._process.poll() if self._process else None
        if code is not None:
            raise StackError(f"the {self.name} ended with exit code {code}; its log ends with\n{self.log_tail()}")

    def log_tail(self):
        with contextlib.suppress(OSError):
            lines = pathlib.Path(self.log).read_text(errors="replace").splitlines()
            return "\n".join(f"    {line}" for line in lines[-LOG_LINES_SHOWN:])
        return "    (no log)"

    def wait_for(self, condition, what, seconds=START_SECONDS):
        def asked():
            self.check()
            return condition()

        return wait_until(seconds, asked, what)

    def stop(self, grace=None):
        """SIGTERM and `grace` seconds to end in order; then what is left of the family is killed. Returns the exit code."""
        if self._process is None:
            return None
        known = family([self.pid])
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS if grace is None else grace)
        kill_family(known | {self.pid})
        code = self._process.wait()
        self._process = None
        return code

    def kill(self):
        """SIGKILL to the process and everything it started; returns [(pid, description)]."""
        killed = kill_family([self.pid])
        self._process.wait()
        self._process = None
        return killed


class ControlPlane(Daemon):
    """`inshore-control serve` with its state in `folder`."""

    def __init__(self, stage, folder, log, environment):
        super().__init__("control plane", log, environment)
        self._program = stage / "usr/bin/inshore-control"
        self.state, self._config, self._ports = folder / "state", folder / "control.toml", folder / "ports.json"
        self._https = self._http = 0

    def start(self):
        folder = self._config.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._ports.unlink(missing_ok=True)
        self._config.write_text(
            f"state_dir = {toml(self.state)}\nport_file = {toml(self._ports)}\n"
            f'[listen]\nhttps = "127.0.0.1:{self._https}"\nhttp = "127.0.0.1:{self._http}"\n'
        )
        self.start_process([self._program, "serve", "--config", self._config])
        ports = self.wait_for(self._read_ports, "the start of the control plane")
        # Kept over a restart: agents dial the address that their join token named.
        self._https, self._http = ports["https"], ports["http"]
        self.wait_for(self._ready, "the start of the control plane")

    def _read_ports(self):
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self._ports.read_text())
        return None

    def _ready(self):
        with contextlib.suppress(StackError):
            self.client.call("GET", "/readyz")
            return True
        return False

    @property
    def address(self):
        """What agents dial."""
        return f"wss://127.0.0.1:{self._https}"

    @property
    def url(self):
        """REST interface and dashboard."""
        return f"http://127.0.0.1:{self._http}"

    @property
    def key(self):
        """`user:password` of the REST interface and the dashboard."""
        return (self.state / "api_key").read_text().strip()

    @property
    def client(self):
        return Client(self.url, self.key)

    @property
    def certificate(self):
        """The self-signed certificate of its first start."""
        return self.state / "tls" / "cert.pem"


class Agent(Daemon):
    """`inshore agent run` with its files in `folder`."""

    def __init__(self, stage, folder, log, environment, certificate):
        super().__init__("agent", log, environment)
        self._program = stage / "usr/bin/inshore"
        self.folder = folder
        self.config, self.policy = folder / "agent.toml", folder / "policy.toml"
        self.state, self._certificate = folder / "state", certificate

    def configure(self, destinations, connector_digests, schema_names=True, more="", readable=()):
        """agent.toml, and a policy that allows exactly these destinations and connector packages. Connectors run in
        their sandbox and may read these files and folders beside their own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        places = ", ".join(f'{{ kind = "inshore_files", uri = {toml(uri)} }}' for uri in destinations)
        self.config.write_text(
            f"state_dir = {toml(self.state)}\n"
            f"cache_dir = {toml(self.folder / 'cache')}\n"
            f"spool_dir = {toml(self.folder / 'spool')}\n"
            f"[channel]\ntls_ca_file = {toml(self._certificate)}\n"
            f"[python]\ninterpreters = [{toml(os.path.realpath(sys.executable))}]\n"
        )
        self.policy.write_text(
            'mode = "managed"\n'
            f"destinations = [{places}]\n"
            'connectors = "listed"\n'
            f"connector_digests = {json.dumps(list(connector_digests))}\n"
            f"{more}[sandbox]\nread_only = {json.dumps([str(path) for path in readable])}\n"
            f"[telemetry]\nschema_names = {json.dumps(schema_names)}\n"
        )

    def enrol(self, token):
        """Gives the join token to `inshore enrol` in a file that only its owner reads; returns what it printed."""
        file = self.folder / "join-token"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            opened.write(token)
        command = [self._program, "enrol", "--config", self.config, "--token-file", file]
        try:
            done = subprocess.run(
                [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=START_SECONDS, env=self._environment, check=False,
            )
        except subprocess.TimeoutExpired:
            raise StackError(f"enrolment took more than {START_SECONDS} s") from None
        finally:
            file.unlink()
        if done.returncode:
            raise StackError(f"inshore enrol ended with exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def start(self):
        self.start_process([self._program, "agent", "run", "--config", self.config, "--policy", self.policy])


class Stack:
    """One control plane and one agent below `folder`."""

    def __init__(self, stage, folder):
        stage, self.folder = pathlib.Path(stage).resolve(), pathlib.Path(folder).resolve()
        for program in ("inshore", "inshore-control"):
            if not (stage / "usr/bin" / program).exists():
                raise StackError(f"{stage}/usr/bin/{program} is missing: run ./dev build first")
        logs, temporary = self.folder / "logs", self.folder / "tmp"
        for path in (logs, temporary):
            path.mkdir(parents=True, exist_ok=True)
        dropped = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        environment["TMPDIR"] = str(temporary)
        self._before = set(process_table())
        # Whoever loses its parent becomes ours instead of init's, so that it can be found and ended.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.control = ControlPlane(stage, self.folder / "control", logs / "control.log", environment)
        certificate = self.control.certificate
        self.agent = Agent(stage, self.folder / "agent", logs / "agent.log", environment, certificate)

    @property
    def client(self):
        return self.control.client

    def wait_online(self, agent_id):
        """Until the control plane has the agent's session."""
        self.agent.wait_for(lambda: self.client.agent(agent_id)["online"], "the agent's first session")

    def check(self):
        self.control.check()
        self.agent.check()

    def close(self, grace=None):
        """Ends everything, in order, whatever signals arrive meanwhile."""
        with contextlib.ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                stack.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))
            self.agent.stop(grace)
            self.control.stop(grace)
            table = process_table()
            adopted = {pid for pid, row in table.items() if row[0] == os.getpid()} - self._before
            kill_family(adopted)
            reap(adopted)

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        # A running job would drain to its next checkpoint; who interrupts does not wait for that.
        self.close(HURRY_SECONDS if failure else None)


def pack(project):
    """A connector project as a zip, without what never belongs in one. The same files give the same bytes."""
    project = pathlib.Path(project)
    names = [path.relative_to(project) for path in project.rglob("*") if path.is_file()]
    wanted = [name for name in names if not any(part in LEFT_OUT or part[0] == "." for part in name.parts)]
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(name.as_posix() for name in wanted):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            archive.writestr(entry, (project / name).read_bytes())
    return output.getvalue()


def toml(value):
    """A basic string; JSON's escapes are among TOML's."""
    return json.dumps(str(value), ensure_ascii=False)
