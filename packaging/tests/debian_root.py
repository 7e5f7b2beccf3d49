"""A clean Debian to install into: a private copy of the cached root, entered by chroot or booted with its own systemd.

Nothing here touches the host's services: commands run inside the copy, without network, and what was booted is powered
off and its directory removed.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import time

# What apt, dpkg and the account tools write about every package; everything else must be as it was after a purge.
BOOKKEEPING = (
    "var/lib/dpkg", "var/lib/apt", "var/cache/apt", "var/log", "var/cache/debconf", "var/cache/ldconfig",
    "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock", "proc", "sys", "dev", "run", "tmp",
)


class Failed(Exception):
    """A command inside the root did not end with 0."""


class DebianRoot:
    """One copy; close it."""

    def __init__(self):
        source = os.environ.get("DEBIAN_ROOT", "")
        if os.getuid() != 0:
            raise Failed("not root: the package cannot be installed into a Debian root")
        if not source or not os.path.exists(source + ".ready"):
            raise Failed("DEBIAN_ROOT is not set to a built root: run ./dev test, which builds it")
        self.folder = tempfile.mkdtemp(prefix="inshore-debian-")
        self.path = os.path.join(self.folder, "root")
        subprocess.run(["cp", "-a", "--reflink=auto", source, self.path], check=True)
        self.machine = None
        self.init = None

    def close(self):
        self.power_off()
        shutil.rmtree(self.folder)

    def file(self, path):
        return os.path.join(self.path, path.lstrip("/"))

    def read(self, path):
        with open(self.file(path), encoding="utf-8") as file:
            return file.read()

    def write(self, path, text, mode=0o644):
        os.makedirs(os.path.dirname(self.file(path)), exist_ok=True)
        with open(self.file(path), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.file(path), mode)

    def run(self, *command, stdin="", fails=False):
        """Runs a command inside: in the booted machine when there is one, else in a chroot without network."""
        if self.init:
            enter = ["nsenter", "-t", str(self.init), "-a", "--"]
        else:
            enter = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "chroot", self.path]
            enter += ["sh", "-c", 'mount -t proc proc /proc && exec "$@"', "sh"]
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
        done = subprocess.run(enter + list(command), input=stdin, capture_output=True, text=True, env=clean, timeout=120)
        if (done.returncode != 0) != fails:
            raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def boot(self):
        """Starts the root's own systemd in namespaces; its only network is its own loopback."""
        # nspawn's own filter leaves out what a machine has and the unit allows.
        calls = "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self"
        command = ["systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--private-network", "--console=pipe", calls, "--boot"]
        log = os.path.join(self.folder, "boot.log")
        with open(log, "w", encoding="utf-8") as output:
            self.machine = subprocess.Popen(command + ["-D", self.path], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.machine.poll() is None:
            self.init = self.init or self._init()
            if self.init and self._state() in ("running", "degraded"):
                return
            time.sleep(0.1)
        with open(log, encoding="utf-8") as text:
            raise Failed("the Debian root did not boot under systemd-nspawn: " + text.read()[-2000:])

    def _init(self):
        with open(f"/proc/{self.machine.pid}/task/{self.machine.pid}/children", encoding="utf-8") as children:
            found = children.read().split()
        return int(found[0]) if found else None

    def _state(self):
        command = ["nsenter", "-t", str(self.init), "-a", "--", "systemctl", "is-system-running"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()

    def power_off(self):
        if not self.machine:
            return
        if self.init and self.machine.poll() is None:
            subprocess.run(["nsenter", "-t", str(self.init), "-a", "--", "systemctl", "poweroff"], capture_output=True)
        try:
            self.machine.wait(20)
        except subprocess.TimeoutExpired:
            self.machine.kill()
            self.machine.wait()
        self.machine = self.init = None

    def snapshot(self):
        """Every file with kind, mode, owner and content, without the bookkeeping."""
        found = {}
        for folder, folders, files in os.walk(self.path):
            relative = os.path.relpath(folder, self.path)
            folders[:] = [name for name in folders if os.path.normpath(os.path.join(relative, name)) not in BOOKKEEPING]
            for name in folders + files:
                path = os.path.normpath(os.path.join(relative, name))
                if path not in BOOKKEEPING:
                    found[path] = self._describe(path)
        return found

    def _describe(self, path):
        full = os.path.join(self.path, path)
        status = os.lstat(full)
        content = ""
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(full)
        elif stat.S_ISREG(status.st_mode):
            with open(full, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
        return (oct(status.st_mode), status.st_uid, status.st_gid, content)
