"""install.sh installs what checksum and signature vouch for, and nothing else. Every case runs with minisign and with openssl.

The tools that change a host (apt-get, runuser, systemctl) are stand-ins that write down how they were called.
"""

import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
import unittest

INSTALLER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "install.sh")
TOOLS = ("sh sed cut mktemp rm cp cat head tail wc tr find grep basename sha256sum curl").split()
STAND_IN = '#!/bin/sh\necho "{name} $*" >>"{log}"\n[ {name} != runuser ] || cat >>"{log}"\n'


class Install(unittest.TestCase):
    """One signed package in a folder of its own."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="inshore-installer-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.log = self.path("calls")
        self.deb = self.path("inshore_1.deb")
        self.write(self.deb, b"a package")
        self.key = self.make_key("publisher")
        self.sign("publisher")
        self.checksum()

    def path(self, name):
        return os.path.join(self.folder, name)

    @staticmethod
    def write(path, content, mode=0o644):
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)

    def make_key(self, name):
        subprocess.run(["minisign", "-GW", "-p", self.path(name + ".pub"), "-s", self.path(name)], check=True, capture_output=True)
        with open(self.path(name + ".pub"), encoding="utf-8") as file:
            return file.read().splitlines()[1]

    def sign(self, key, *options):
        subprocess.run(["minisign", "-Sm", self.deb, "-s", self.path(key), *options], check=True, capture_output=True)

    def checksum(self):
        with open(self.deb, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        self.write(self.deb + ".sha256", f"{digest}  inshore_1.deb\n".encode())
        return digest

    def run_installer(self, verifier, *options, **environment):
        """Runs it with a PATH that holds one verifier; gives the exit code, what it said, and which stand-ins it called."""
        tools = tempfile.mkdtemp(dir=self.folder)
        for tool in TOOLS + verifier:
            os.symlink(shutil.which(tool), os.path.join(tools, tool))
        for name in ("dpkg", "apt-get", "runuser", "systemctl"):
            self.write(os.path.join(tools, name), STAND_IN.format(name=name, log=self.log).encode(), 0o755)
        self.write(os.path.join(tools, "id"), b"#!/bin/sh\necho 0\n", 0o755)
        self.write(self.log, b"")
        done = subprocess.run(["sh", INSTALLER, *options], env={"PATH": tools, **environment}, capture_output=True, text=True)
        with open(self.log, encoding="utf-8") as file:
            return done.returncode, done.stderr, file.read()

    def refused(self, words, *options, verifiers=(["minisign"], ["openssl"])):
        options = options or ("--package", self.deb, "--key", self.key)
        for verifier in verifiers:
            with self.subTest(verifier=verifier):
                code, said, called = self.run_installer(verifier, *options)
                self.assertNotEqual(code, 0)
                self.assertIn(words, said)
                self.assertEqual(called, "")

    def accepted(self, *options, **environment):
        for verifier in (["minisign"], ["openssl"]):
            with self.subTest(verifier=verifier):
                code, said, called = self.run_installer(verifier, *options, **environment)
                self.assertEqual((code, said), (0, ""))
                self.assertRegex(called, r"(?m)^apt-get .*install -y .*/inshore_1\.deb$")
                self.called = called

    def test_a_signed_package_is_installed(self):
        self.accepted("--package", self.deb, "--key", self.key)
        self.accepted("--package", self.deb, "--key", self.path("publisher.pub"), "--sha256", self.checksum())

    def test_the_token_goes_to_enrolment_by_stdin_only(self):
        self.write(self.path("token"), b"inshore-join-secret\n", 0o600)
        self.accepted("--package", self.deb, "--key", self.key, "--token-file", self.path("token"))
        self.assertIn("runuser -u inshore -- inshore enrol\ninshore-join-secret\n", self.called)

    def test_a_token_that_others_can_read_is_refused(self):
        self.write(self.path("token"), b"inshore-join-secret\n", 0o640)
        self.refused("others can read", "--package", self.deb, "--key", self.key, "--token-file", self.path("token"))

    def test_a_wrong_checksum_is_refused(self):
        self.write(self.deb + ".sha256", b"0" * 64 + b"  inshore_1.deb\n")
        self.refused("checksum")

    def test_a_missing_checksum_is_refused(self):
        os.remove(self.deb + ".sha256")
        self.refused("cannot be fetched")

    def test_another_publishers_signature_is_refused(self):
        self.make_key("stranger")
        self.sign("stranger")
        self.refused("was not made by key")

    def test_a_package_altered_after_signing_is_refused(self):
        self.write(self.deb, b"A package")
        self.checksum()
        self.refused("was not made by key")

    def test_an_altered_trusted_comment_is_refused(self):
        with open(self.deb + ".minisig", "rb") as file:
            self.write(self.deb + ".minisig", file.read().replace(b"timestamp:", b"timestamp:1"))
        self.refused("was not made by key")

    def test_a_signature_of_the_unhashed_file_is_refused(self):
        self.sign("publisher", "-l")
        self.refused("was not made by key")

    def test_a_truncated_or_missing_signature_is_refused(self):
        self.write(self.deb + ".minisig", b"untrusted comment: x\nRUQ=\ntrusted comment: y\nAA==\n")
        self.refused("was not made by key")
        self.write(self.deb + ".minisig", b"")
        self.refused("was not made by key")
        os.remove(self.deb + ".minisig")
        self.refused("cannot be fetched")

    def test_without_a_verifier_nothing_is_installed(self):
        self.refused("cannot be verified", verifiers=([],))

    def test_without_a_key_or_with_a_malformed_one_nothing_is_installed(self):
        self.refused("--key is missing", "--package", self.deb)
        self.refused("was not made by key", "--package", self.deb, "--key", "RWQ=")

    def test_plain_http_is_refused(self):
        self.refused("not an https:// address", "--package", "http://127.0.0.1/inshore_1.deb", "--key", self.key)

    def test_a_package_comes_over_https(self):
        certificate, key = self.path("server.crt"), self.path("server.key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                       check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        folder = self.folder

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=folder)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = f"https://127.0.0.1:{server.server_port}/inshore_1.deb"
        self.accepted("--package", url, "--key", self.key, CURL_CA_BUNDLE=certificate)
        self.refused("cannot be fetched", "--package", url.replace("_1", "_2"), "--key", self.key)


if __name__ == "__main__":
    unittest.main(verbosity=2)
