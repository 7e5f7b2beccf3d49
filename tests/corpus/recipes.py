"""Recipes of a corpus folder: public connector projects, how to run each, and what it must leave in a destination.

A corpus folder holds recipes/NAME.json, expected/NAME.json, harness/compare.py, servers/ctl.py and fixtures/. The projects
themselves are elsewhere: CORPUS_SRC names a folder with the repositories that the recipes speak of.
"""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.request

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "inshore-corpus"
# Servers run as users of their own, who cannot enter root's home.
SCRATCH = pathlib.Path("/var/tmp/inshore-corpus") if os.geteuid() == 0 else CACHE / "run"
FIXTURES = "http://127.0.0.1:18080"
PLAYGROUND = "http://127.0.0.1:5001"
SERVER_SECONDS = 180
SETUP_SECONDS = 300
SYNC_SECONDS = 180
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "USER", "XDG_CACHE_HOME")
REQUIREMENTS = ("requirements.txt", "pyproject.toml")


class CorpusError(Exception):
    """The corpus, not the product, cannot be run; the text is for a person."""


class Corpus:
    """A corpus folder, the sources of its projects, and where its servers and runs may write."""

    def __init__(self, folder, source, scratch, virtual_environments):
        self.folder, self.source = pathlib.Path(folder).resolve(), pathlib.Path(source).resolve()
        self.scratch, self.virtual_environments = pathlib.Path(scratch), pathlib.Path(virtual_environments)
        self._started = []
        if not (self.folder / "recipes").is_dir():
            raise CorpusError(f"{self.folder} has no recipes/")

    def make_fixtures(self):
        """What the corpus makes on first use and no recipe asks for."""
        maker = self.folder / "fixtures" / "mkcert.sh"
        if maker.exists() and not (maker.parent / "client_cert.pem").exists():
            subprocess.run(["bash", maker], stdin=subprocess.DEVNULL, check=True)

    def names(self):
        return sorted(path.stem for path in (self.folder / "recipes").glob("*.json"))

    def recipe(self, name):
        path = self.folder / "recipes" / f"{name}.json"
        if not path.is_file():
            raise CorpusError(f"there is no recipe {name!r}; ./dev corpus FOLDER --list shows the names")
        return Recipe(self, json.loads(path.read_text(encoding="utf-8")))

    def variables(self):
        """What commands of recipes and servers see."""
        return {
            **os.environ,
            "CORPUS": str(self.folder), "CORPUS_RUN": str(self.scratch), "RUN": str(self.scratch),
            "CORPUS_VENVS": str(self.virtual_environments), "VENVS": str(self.virtual_environments),
            "PGPASSWORD": "corpus-pw",
            "PSQL": "psql -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p 15432 -U corpus -d corpus",
            "MYSQL": "mariadb -h 127.0.0.1 -P 13306 -ucorpus -pcorpus-pw corpus",
        }

    def serve(self, servers):
        if servers:
            self._started.extend(server for server in servers if server not in self._started)
            self._control("start", *servers)

    def stop_servers(self):
        if self._started:
            self._control("stop", *self._started)
            self._started.clear()

    def _control(self, *words):
        # Servers inherit what they are given: a pipe would stay open as long as they run.
        log = self.scratch / "servers.log"
        self.scratch.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as opened:
            done = subprocess.run(
                [sys.executable, self.folder / "servers" / "ctl.py", *words], env=self.variables(),
                stdin=subprocess.DEVNULL, stdout=opened, stderr=opened, timeout=SERVER_SECONDS, check=False,
            )
        if done.returncode:
            raise CorpusError(f"servers: {' '.join(words)} failed: {last_line(log.read_text(errors='replace'))}")

    def fill(self, text):
        return text.replace("$CORPUS", str(self.folder)).replace("$RUN", str(self.scratch))

    def compare(self, name, tables):
        """What the corpus's own comparer says: nothing when the tables are equal."""
        done = subprocess.run(
            [sys.executable, self.folder / "harness" / "compare.py", name, tables],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        if done.returncode == 0:
            return []
        return (done.stdout.strip() or last_line(done.stderr) or "compare.py failed without a word").splitlines()


class Recipe:
    """One project with its configuration, its servers and its syncs."""

    def __init__(self, corpus, fields):
        self.corpus, self._fields = corpus, fields
        self.name, self.servers = fields["name"], fields.get("servers", [])
        self.syncs, self.seconds = fields.get("syncs", 2), fields.get("timeout_s", SYNC_SECONDS)
        self.initial_state = fields.get("initial_state")
        self.project = corpus.source / fields["repo"] / fields["path"]
        path = corpus.folder / "expected" / f"{self.name}.json"
        self.expected = json.loads(path.read_text(encoding="utf-8"))

    @property
    def python(self):
        """The version that the expected tables were made with; versions resolve differently elsewhere."""
        return self.expected.get("python")

    @property
    def needs_nothing_else(self):
        """Whether it runs without servers and without variables of its own."""
        return not (self.servers or self._fields.get("mitm") or self._fields.get("env") or "setup" in self._fields)

    def copy(self, folder):
        """The project as the recipe wants it, in a new folder."""
        if not (self.project / "connector.py").is_file():
            raise CorpusError(f"{self.project} has no connector.py: does CORPUS_SRC hold the repositories?")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.project, folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        self._require(folder)
        self.run([command.replace("$PROJECT", str(folder)) for command in self._fields.get("project_setup", [])])
        return folder

    def _require(self, folder):
        more, instead = self._fields.get("extra_requirements", []), self._fields.get("requirements_override")
        if instead is None and not more:
            return
        file = folder / "requirements.txt"
        if instead is not None:
            (folder / "pyproject.toml").unlink(missing_ok=True)
        elif (folder / "pyproject.toml").exists() and not file.exists():
            raise CorpusError(f"{self.name}: extra_requirements beside a pyproject.toml are not supported")
        lines = instead if instead is not None else (file.read_text("utf-8-sig").splitlines() if file.exists() else [])
        file.write_text("".join(f"{line}\n" for line in [*lines, *more]), encoding="utf-8")

    def start(self):
        """Servers and sources as they are before the first sync."""
        self.corpus.serve(self.servers)
        if any(server.startswith("http:") for server in self.servers):
            ask(f"{FIXTURES}/__corpus__/reset", "POST")
        if any(server.startswith("playground") for server in self.servers):
            ask(f"{PLAYGROUND}/__corpus__/reset", "GET")
        self.run(self._fields.get("setup", []))

    def before(self, number):
        """What happens at the source between the syncs `number - 1` and `number`."""
        if number == 1:
            return
        self.run(self._fields.get("between", {}).get(str(number - 1), []))
        if any(server.startswith("http:") for server in self.servers):
            ask(f"{FIXTURES}/__corpus__/next", "POST")

    def run(self, commands):
        variables = {**self.corpus.variables(), "SOURCE": str(self.project)}
        for command in commands:
            done = subprocess.run(
                ["bash", "-c", f"set -e; {command}"], cwd=self.corpus.folder, env=variables, timeout=SETUP_SECONDS,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )
            if done.returncode:
                raise CorpusError(f"setup failed: {command[:100]}: {last_line(done.stdout)}")

    def configuration(self, number):
        own = self._fields.get("config_by_sync", {}).get(str(number), {})
        return {key: self._value(value) for key, value in {**self._fields.get("config", {}), **own}.items()}

    def _value(self, value):
        value = self.corpus.fill(value)
        kind, _, path = value.partition(":")
        if kind == "$file":
            return pathlib.Path(path).read_text(encoding="utf-8")
        if kind == "$b64file":
            return base64.b64encode(pathlib.Path(path).read_bytes()).decode()
        return value

    def own_variables(self):
        """What the recipe adds to the connector's environment."""
        found = {name: self.corpus.fill(value) for name, value in self._fields.get("env", {}).items()}
        if self._fields.get("mitm"):
            bundle = str(self.corpus.folder / "servers" / "ca" / "bundle.pem")
            found |= dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), FIXTURES)
            found |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
            found |= dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"), bundle)
        return found

    def judge(self, outcomes):
        """What differs from the expected course: `outcomes` are (succeeded, state afterwards) by sync."""
        problems = []
        for number, ((succeeded, state), wanted) in enumerate(zip(outcomes, self.expected["syncs"]), 1):
            if "clock_dependent_outcome" not in wanted and succeeded != wanted["ok"]:
                words = {True: "succeeded", False: "failed"}
                problems.append(f"sync {number} {words[succeeded]}, expected that it {words[wanted['ok']]}")
            if wanted["final_state"] is not None and state is not None:
                volatile = wanted["state_volatile_paths"]
                for path in differing(wanted["final_state"], state):
                    if not any(path == known or path.startswith(f"{known}.") for known in volatile):
                        problems.append(f"state after sync {number} differs at {path}")
        return problems


def environment_of_tools():
    """The part of this process's environment that a recipe does not hide."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}
    return {**kept, "TZ": "UTC", "PYTHONHASHSEED": "0"}


def differing(wanted, found, path=""):
    """Paths at which two JSON values differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        names = sorted(set(wanted) | set(found))
        return [each for name in names for each in differing(wanted.get(name), found.get(name), f"{path}.{name}")]
    return [] if wanted == found else [path or "."]


def ask(url, method):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, method=method), timeout=10) as answer:
        answer.read()


def last_line(text):
    return (text.strip().splitlines() or [""])[-1]
