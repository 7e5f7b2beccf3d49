"""Stand-ins for the two programs, for the tests of stack.py and demo.py: they serve, enrol, and start processes as the
real ones do, and move no rows. `write(stage)` lays them out as ./dev build would."""

import sys

AGENT_ID = "agent_1"

CONTROL = '''#!{python}
import base64, email, hashlib, json, pathlib, re, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

text = pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).read_text()
setting = lambda name: re.search(rf'^{{name}} = "(.*)"$', text, re.M).group(1)
state = pathlib.Path(setting("state_dir"))
state.mkdir(parents=True, exist_ok=True)
(state / "api_key").write_text("user:secret")
EXPECTED = "Basic " + base64.b64encode(b"user:secret").decode()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def reply(self, status, code, data=None, message=None):
        body = json.dumps({{"code": code, "message": message, "data": data}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if path == "/html":
            self.send_response(502)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")
        elif self.headers["Authorization"] != EXPECTED:
            self.reply(401, "Unauthorized", message="who are you")
        elif path == "/readyz":
            self.reply(200, "Success")
        elif path == "/v1/connector-sdk/packages":
            head = f"Content-Type: {{self.headers['Content-Type']}}\\r\\n\\r\\n".encode()
            (part,) = email.message_from_bytes(head + body).get_payload()
            content = part.get_payload(decode=True)
            name = part.get_param("name", header="content-disposition")
            self.reply(201, "Success", {{"id": "package_1", "name": name, "file": part.get_filename(),
                                        "file_sha256_hash": hashlib.sha256(content).hexdigest()}})
        elif path == "/v1/groups":
            self.reply(201, "Success", {{"id": "group_1", "name": json.loads(body)["name"]}})
        elif path == "/v1/hybrid-deployment-agents":
            self.reply(201, "Success", {{"id": "agent_1", "token": "inshore-join-token"}})
        elif path == "/v1/hybrid-deployment-agents/agent_1":
            self.reply(200, "Success", {{"id": "agent_1", "online": (state.parent / "online").exists()}})
        else:
            self.reply(404, "NotFound_Thing", message="there is no such thing")
    do_GET = do_POST = do_PATCH = do_DELETE = do

server = ThreadingHTTPServer(("127.0.0.1", int(setting("http").rpartition(":")[2])), Handler)
ports = pathlib.Path(setting("port_file"))
ports.with_suffix(".new").write_text(json.dumps({{"https": 1, "http": server.server_address[1]}}))
ports.with_suffix(".new").rename(ports)
server.serve_forever()
'''

AGENT = '''#!{python}
import os, pathlib, signal, stat, subprocess, sys, time

SLEEPER = "import time; time.sleep(600)"
JOB = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', {{SLEEPER!r}}])
print('job', flush=True)
time.sleep(600)
"""
folder = pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).parent
if sys.argv[1] == "enrol":
    file = pathlib.Path(sys.argv[sys.argv.index("--token-file") + 1])
    if stat.S_IMODE(file.stat().st_mode) != 0o600 or file.read_text() != "inshore-join-token":
        sys.exit("the token is no good")
    print("enrolled as agent_1")
elif (folder / "fails").exists():
    print("the policy is not to my taste", flush=True)
    sys.exit(3)
else:
    job = subprocess.Popen([sys.executable, "-c", JOB], start_new_session=True, stdout=subprocess.PIPE)
    job.stdout.readline()
    (folder.parent / "control" / "online").touch()
    if (folder / "stubborn").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
'''


def write(stage):
    programs = stage / "usr" / "bin"
    programs.mkdir(parents=True)
    for name, text in [("inshore-control", CONTROL), ("inshore", AGENT)]:
        (programs / name).write_text(text.format(python=sys.executable))
        (programs / name).chmod(0o755)
