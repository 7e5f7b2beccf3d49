"""Prints the licences of everything that is compiled into the binaries: one entry per crate, each text once.

Reads the dependency graph and the crates' own sources, offline; the build has fetched them.
"""

import glob
import json
import os
import subprocess
import sys

PRODUCTS = {"inshore-agent", "inshore-control-plane", "inshore-sdk-native"}
TEXTS = ("LICENSE*", "LICENCE*", "COPYING*", "COPYRIGHT*", "NOTICE*", "UNLICENSE*", "*/LICENSE*")


def compiled_in(metadata):
    """The packages that the products reach by normal dependencies."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    waiting = [package for package, about in packages.items() if about["name"] in PRODUCTS]
    if len(waiting) != len(PRODUCTS):
        sys.exit(f"third_party.py: the workspace does not hold all of {sorted(PRODUCTS)}")
    seen = set()
    while waiting:
        package = waiting.pop()
        if package not in seen:
            seen.add(package)
            waiting += [dep["pkg"] for dep in nodes[package]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
    return sorted((packages[package] for package in seen if packages[package]["source"]), key=lambda about: (about["name"], about["version"]))


def texts_of(package):
    folder = os.path.dirname(package["manifest_path"])
    for path in sorted({path for pattern in TEXTS for path in glob.glob(os.path.join(folder, pattern)) if os.path.isfile(path)}):
        with open(path, encoding="utf-8", errors="replace") as file:
            yield file.read().strip()


def main():
    host = [line.split()[1] for line in subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout.splitlines()
            if line.startswith("host:")]
    command = ["cargo", "metadata", "--format-version", "1", "--offline", "--filter-platform", *host]
    packages = compiled_in(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    users = {}
    print("Inshore's binaries hold code of these projects.\n")
    print("The Rust standard library: MIT OR Apache-2.0; https://github.com/rust-lang/rust")
    for package in packages:
        print(f"{package['name']} {package['version']}: {package['license'] or 'see its text'}; {package['repository'] or 'no address given'}")
        for text in texts_of(package):
            users.setdefault(text, []).append(f"{package['name']} {package['version']}")
    for text, names in users.items():
        print(f"\n{'=' * 100}\n{', '.join(names)}\n\n{text}")


if __name__ == "__main__":
    main()
