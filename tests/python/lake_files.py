#!/usr/bin/env python3
"""Which files of a lake nobody needs: after a sync that ended well there must be none.

    lake_files.py --lake DIR

Needed are the chain's entries, the connector states they name, the Delta logs, every data file that a version of a
table's log names, the Iceberg metadata with the manifests and delete files that a version of it names, and every file beside rows that a commit published. All else is an orphan: a file of a killed upload, a rewrite that was never committed, a temporary file,
a staged file whose rows are in the table by now. Prints the orphans and ends with `files N, orphans O`; exit 1 unless 0.
"""

import argparse
import json
import pathlib
import re
import sys
import urllib.parse

CHAIN_ENTRY = re.compile(r"_inshore/[^/]+/chain/\d{20}\.json")
CHAIN_HINT = re.compile(r"_inshore/[^/]+/hint\.json")
DELTA_LOG = re.compile(r"[^/]+/[^/]+/_delta_log/(\d{20}(\.json|\.crc|\.checkpoint.*\.parquet)|_last_checkpoint)")
ICEBERG_METADATA = re.compile(r"[^/]+/[^/]+/_iceberg/metadata/(v\d+\.metadata\.json|version-hint\.text)")


def look(lake):
    """(number of files, orphans); paths are relative to the lake."""
    root = pathlib.Path(lake)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    needed = set()
    for file in files:
        if CHAIN_ENTRY.fullmatch(file):
            needed |= {file, *states(root, file), *uploads(root, file)}
        elif CHAIN_HINT.fullmatch(file):
            needed.add(file)
        elif DELTA_LOG.fullmatch(file):
            needed |= {file, *data_files(root, file)}
        elif ICEBERG_METADATA.fullmatch(file):
            needed |= {file, *manifests(root, file)}
    return len(files), [file for file in files if file not in needed]


def states(root, entry):
    """The state object that a chain entry names, if it has one."""
    state = json.loads((root / entry).read_bytes().split(b"\n", 1)[0]).get("state")
    if isinstance(state, dict) and "object" in state:
        yield f"{entry.rpartition('/chain/')[0]}/state/{state['object']['name']}"


def uploads(root, entry):
    """The places of the files that a commit publishes beside rows."""
    for table in json.loads((root / entry).read_bytes().split(b"\n", 1)[0]).get("tables", ()):
        for upload in table.get("uploads", ()):
            yield f"{table['schema']}/{table['table']}/_files/{upload['path']}"


def data_files(root, log):
    """The data files that a version of a table adds. Removed ones were added by an earlier version."""
    if not log.endswith(".json"):
        return
    table = log.partition("/_delta_log/")[0]
    for line in (root / log).read_text().splitlines():
        added = json.loads(line).get("add")
        if added:
            yield f"{table}/{urllib.parse.unquote(added['path'])}"


def manifests(root, metadata):
    """The manifest lists, manifests and delete files that a version of a table's Iceberg metadata names."""
    if not metadata.endswith(".json"):
        return
    from pyiceberg.io.pyarrow import PyArrowFileIO
    from pyiceberg.manifest import DataFileContent, read_manifest_list

    text = json.loads((root / metadata).read_text())
    table = text["location"].removesuffix("_iceberg")
    below = lambda address: f"{metadata.partition('_iceberg/')[0]}{address.removeprefix(table)}"
    for snapshot in text["snapshots"]:
        yield below(snapshot["manifest-list"])
        if not (root / below(snapshot["manifest-list"])).is_file():
            continue
        io = PyArrowFileIO()
        for manifest in read_manifest_list(io.new_input(snapshot["manifest-list"])):
            yield below(manifest.manifest_path)
            if not (root / below(manifest.manifest_path)).is_file():
                continue
            for entry in manifest.fetch_manifest_entry(io):
                if entry.data_file.content != DataFileContent.DATA:
                    yield below(entry.data_file.file_path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", required=True)
    lake = parser.parse_args().lake
    if not pathlib.Path(lake).is_dir():
        sys.exit(f"lake_files: there is no folder {lake}")
    count, orphans = look(lake)
    print("\n".join([*orphans, f"files {count}, orphans {len(orphans)}"]))
    sys.exit(1 if orphans else 0)


if __name__ == "__main__":
    main()
