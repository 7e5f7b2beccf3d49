"""The package: what is in it, what it leaves behind, and that an installed host enrols and syncs.

Environment: INSHORE_STAGE (a staged product: usr/bin, usr/lib), DEBIAN_ROOT and WHEELS (see dev.d/package.sh). Needs
root; a part that lacks something fails and says what.
"""

import glob
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(REPOSITORY, "installer")]

from debian_root import DebianRoot  # noqa: E402
from installed_host import Host  # noqa: E402

UNITS = ("inshore-agent.service", "inshore-control.service")
# systemd-analyze's exposure, times ten.
EXPOSURE_MAX = {"inshore-agent.service": 25, "inshore-control.service": 12}
# Directories of every system that a unit may name without our package holding them.
SYSTEM_FOLDERS = {"/", "/usr/lib", "/usr/lib64", "/lib", "/lib64"}


def package(step, stage, out, compression="none"):
    """Runs functions of dev.d/package.sh, as ./dev package does."""
    script = f"set -euo pipefail; source dev.d/needs.sh; source dev.d/package.sh; {step}"
    environment = {**os.environ, "PACKAGE_COMPRESSION": compression}
    done = subprocess.run(["bash", "-c", script, "package", stage, out], cwd=REPOSITORY, env=environment,
                          capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)


def build_deb(stage, out):
    os.makedirs(out, exist_ok=True)
    package('package_tree "$1" "$2/tree"; package_deb "$2/tree" "$2"', stage, out)
    [deb] = glob.glob(os.path.join(out, "*.deb"))
    return deb


def newer(deb, out):
    """The same package as a later version that ships another agent.toml."""
    tree = os.path.join(out, "newer")
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = os.path.join(tree, "DEBIAN/control")
    with open(control, encoding="utf-8") as file:
        text = re.sub(r"(?m)^Version: (.*)$", r"Version: \1+1", file.read())
    with open(control, "w", encoding="utf-8") as file:
        file.write(text)
    with open(os.path.join(tree, "etc/inshore/agent.toml"), "a", encoding="utf-8") as file:
        file.write("# a comment of the later version\n")
    path = os.path.join(out, "newer.deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, path], check=True, capture_output=True)
    return path


class Packages(unittest.TestCase):
    """Builds the deb of the staged product once for all."""

    @classmethod
    def setUpClass(cls):
        cls.stage = os.environ.get("INSHORE_STAGE", "")
        if not os.path.exists(os.path.join(cls.stage, "usr/bin/inshore")):
            raise AssertionError("INSHORE_STAGE names no staged product: run ./dev build")
        cls.folder = tempfile.mkdtemp(prefix="inshore-package-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.deb = build_deb(cls.stage, os.path.join(cls.folder, "product"))
        cls.tree = os.path.join(cls.folder, "product/tree")


class PackageContents(Packages):
    def test_every_path_that_a_unit_names_is_in_the_package_or_made_by_it(self):
        with open(os.path.join(self.tree, "usr/lib/tmpfiles.d/inshore.conf"), encoding="utf-8") as file:
            made = [line.split()[1] for line in file if line.startswith("d ")]
        for unit in UNITS:
            with open(os.path.join(self.tree, "usr/lib/systemd/system", unit), encoding="utf-8") as file:
                lines = [line for line in file if not line.startswith("#")]
            paths = {path for line in lines for path in re.findall(r"(?<![\w.@~])/[\w./-]*", line.partition("=")[2].replace("file://", ""))}
            self.assertIn(f"/usr/bin/{'inshore' if 'agent' in unit else 'inshore-control'}", paths)
            for path in paths:
                held = os.path.lexists(self.tree + path) or any(path == folder or path.startswith(folder + "/") for folder in made)
                self.assertTrue(held or path in SYSTEM_FOLDERS, f"{unit} names {path}, which nothing installs")

    def test_modes_are_plain_and_settings_are_conffiles(self):
        listed = subprocess.run(["dpkg-deb", "-c", self.deb], check=True, capture_output=True, text=True).stdout.splitlines()
        for line in listed:
            mode, owner, _, _, _, path = line.split(maxsplit=5)
            wanted = "drwxr-xr-x" if path.endswith("/") else "-rwxr-xr-x" if path.startswith("./usr/bin/") else "-rw-r--r--"
            self.assertEqual((mode, owner), (wanted, "root/root"), path)
        etc = sorted(line.split()[-1][1:] for line in listed if "./etc/" in line and not line.endswith("/"))
        shown = subprocess.run(["dpkg-deb", "-I", self.deb, "conffiles"], check=True, capture_output=True, text=True).stdout
        self.assertEqual(etc, shown.split())

    def test_the_same_input_gives_the_same_bytes(self):
        stage = os.path.join(self.folder, "small")
        for name in ("usr/bin/inshore", "usr/bin/inshore-control", "usr/lib/inshore/sdk/_inshore.abi3.so"):
            os.makedirs(os.path.dirname(os.path.join(stage, name)), exist_ok=True)
            shutil.copy("/bin/true", os.path.join(stage, name))
        made = []
        for name, mask in (("one", 0o022), ("two", 0o077)):
            out = os.path.join(self.folder, name, "a" * len(made))
            os.makedirs(out)
            before = os.umask(mask)
            try:
                package('package_tree "$1" "$2/tree"; package_deb "$2/tree" "$2"; package_tar "$2/tree" "$2"', stage, out, "xz")
            finally:
                os.umask(before)
            files = sorted(glob.glob(os.path.join(out, "*.deb")) + glob.glob(os.path.join(out, "*.tar.gz")))
            made.append(subprocess.run(["sha256sum", *map(os.path.basename, files)], cwd=out, check=True, capture_output=True, text=True).stdout)
        self.assertEqual(len(made[0].splitlines()), 2)
        self.assertEqual(made[0], made[1])

    def test_changelog_and_licences_come_along(self):
        doc = os.path.join(self.tree, "usr/share/doc/inshore")
        with gzip.open(os.path.join(doc, "changelog.gz"), "rt", encoding="utf-8") as file:
            self.assertRegex(file.readline(), r"^inshore \(\S+\) \S+; urgency=")
        with gzip.open(os.path.join(doc, "third-party.txt.gz"), "rt", encoding="utf-8") as file:
            licences = file.read()
        for name in ("tokio", "ring", "pyo3", "libsqlite3-sys", "zstd-sys"):
            self.assertRegex(licences, rf"(?m)^{name} \S+: \S")
        self.assertNotIn("see its text", licences)


class Lifecycle(Packages):
    """Installed, upgraded, removed and purged in a clean Debian without network and without a running systemd."""

    def setUp(self):
        self.root = DebianRoot()
        self.addCleanup(self.root.close)
        self.before = self.root.snapshot()
        shutil.copy(self.deb, self.root.file("/tmp/inshore.deb"))
        shutil.copy(newer(self.deb, tempfile.mkdtemp(dir=self.folder)), self.root.file("/tmp/newer.deb"))

    def install(self, deb):
        self.root.run("dpkg", "--force-confold", "-i", deb)

    def owner_and_mode(self, path):
        return self.root.run("stat", "-c", "%U:%G %a", path).strip()

    def test_a_host_gets_files_users_and_an_enabled_unit_that_waits_for_enrolment(self):
        self.install("/tmp/inshore.deb")
        wanted = {
            "/etc/inshore/agent.toml": "root:root 644", "/etc/inshore/policy.toml": "root:root 644",
            "/etc/inshore/control.toml": "root:root 644", "/etc/inshore/secrets": "root:inshore 750",
            "/var/lib/inshore": "inshore:inshore 700", "/var/cache/inshore": "inshore:inshore 700",
            "/var/lib/inshore-control": "inshore-control:inshore-control 700", "/usr/bin/inshore": "root:root 755",
            "/usr/bin/inshore-control": "root:root 755", "/usr/lib/inshore/sdk/_inshore.abi3.so": "root:root 644",
        }
        self.assertEqual({path: self.owner_and_mode(path) for path in wanted}, wanted)
        self.assertEqual(self.root.run("dpkg", "--verify", "inshore"), "")
        enabled = self.root.run("sh", "-c", "cd /etc/systemd/system && find . -name 'inshore*'").split()
        self.assertEqual(enabled, ["./multi-user.target.wants/inshore-agent.service"])
        self.assertEqual(self.root.run("inshore", "--version").split()[0], "inshore")
        self.assertEqual(self.root.run("inshore-control", "--version").split()[0], "inshore-control")
        self.units_are_clean_and_below_the_bars()

    def units_are_clean_and_below_the_bars(self):
        paths = [f"/usr/lib/systemd/system/{unit}" for unit in UNITS]
        self.assertEqual(self.root.run("systemd-analyze", "verify", *paths), "")
        for unit, bar in EXPOSURE_MAX.items():
            shown = self.root.run("systemd-analyze", "security", "--offline=true", f"--threshold={bar}", "--no-pager",
                                  f"/usr/lib/systemd/system/{unit}")
            print(next(line for line in shown.splitlines() if "Overall" in line).lstrip("→ "))

    def test_edited_settings_survive_upgrades_and_state_survives_removal(self):
        self.install("/tmp/inshore.deb")
        edited = self.root.read("/etc/inshore/agent.toml") + '\n[log]\nlevel = "warn"\n'
        self.root.write("/etc/inshore/agent.toml", edited)
        self.root.run("runuser", "-u", "inshore", "--", "sh", "-c", "echo kept > /var/lib/inshore/kept")
        self.install("/tmp/inshore.deb")
        self.assertEqual(self.root.read("/etc/inshore/agent.toml"), edited)
        self.install("/tmp/newer.deb")
        self.assertEqual(self.root.read("/etc/inshore/agent.toml"), edited)
        self.assertIn("a comment of the later version", self.root.read("/etc/inshore/agent.toml.dpkg-dist"))
        self.root.run("dpkg", "-r", "inshore")
        self.assertFalse(os.path.exists(self.root.file("/usr/bin/inshore")))
        self.assertFalse(os.path.exists(self.root.file("/usr/lib/inshore")))
        self.assertEqual(self.root.read("/etc/inshore/agent.toml"), edited)
        self.assertEqual(self.root.read("/var/lib/inshore/kept"), "kept\n")
        self.install("/tmp/newer.deb")
        self.assertEqual(self.root.read("/var/lib/inshore/kept"), "kept\n")

    def test_a_purge_leaves_nothing(self):
        self.install("/tmp/inshore.deb")
        self.root.write("/etc/inshore/secrets/shop", "a secret\n")
        self.root.write("/etc/systemd/system/inshore-agent.service.d/lake.conf", "[Service]\nReadWritePaths=/srv\n")
        self.root.write("/usr/lib/inshore/sdk/__pycache__/stray.pyc", "")
        self.root.write("/var/cache/inshore/packages/x", "")
        self.install("/tmp/newer.deb")
        self.assertNotEqual(self.root.snapshot(), self.before, "the comparison would see nothing")
        self.root.run("dpkg", "--purge", "inshore")
        after = self.root.snapshot()
        self.assertEqual(sorted(after.keys() - self.before.keys()), [])
        self.assertEqual(sorted(self.before.keys() - after.keys()), [])
        changed = {path: (self.before[path], after[path]) for path in after if after[path] != self.before[path]}
        self.assertEqual(changed, {})

    def test_what_an_administrator_changed_by_hand_is_respected(self):
        self.install("/tmp/inshore.deb")
        self.root.run("systemctl", "disable", "inshore-agent")
        self.install("/tmp/newer.deb")
        self.assertFalse(os.path.lexists(self.root.file("/etc/systemd/system/multi-user.target.wants/inshore-agent.service")))
        self.root.run("userdel", "inshore")
        self.root.run("dpkg", "--purge", "inshore")
        self.root.run("getent", "passwd", "inshore-control", fails=True)


class InstalledHost(Packages):
    """A booted Debian whose only network is its loopback: control plane and agent run by their units."""

    def test_install_enrol_sync_upgrade_and_purge(self):
        root = DebianRoot()
        self.addCleanup(root.close)
        Host(self, root, self.deb, newer(self.deb, self.folder)).run()


def load_tests(loader, tests, _pattern):
    tests.addTests(loader.loadTestsFromName("test_install"))
    return tests


if __name__ == "__main__":
    unittest.main(verbosity=2)
