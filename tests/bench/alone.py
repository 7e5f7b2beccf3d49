"""Runs the measured connector as the job does, but with nobody beside it: alone.py SDK ROWS CHECKPOINT_ROWS DECLARED

Its rows are counted and thrown away. Prints the CPU seconds that the connector says its rows took.
"""

import json
import pathlib
import socket
import subprocess
import sys

import pyarrow.ipc

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent / "sdk" / "tests"))

import peer  # noqa: E402


def main():
    sdk, rows, checkpoint_rows, declared = sys.argv[1:]
    configuration = {"rows": rows, "checkpoint_rows": checkpoint_rows, "declared": declared, "figures": "true"}
    start = {
        "project": str(FOLDER / "connector"), "schema": "bench", "naming": "fivetran", "inference": "compatible",
        "debug": False, "configuration": configuration, "state": {},
    }  # fmt: skip
    ours, theirs = socket.socketpair()
    with theirs:
        host = subprocess.Popen([sys.executable, "-I", "-B", str(pathlib.Path(sdk) / "inshore_host.py")], stdin=theirs)
    ours.sendall(peer.frame(peer.START, start))
    count, figures = 0, None
    for kind, payload in peer.conversation(ours):
        if kind == peer.FAILED:
            sys.exit(f"the connector failed: {json.dumps(payload)}")
        if kind == peer.ROWS and payload["schema"]["name"]["table"] == "figures":
            [figures] = peer.values(payload)
        elif kind == peer.ROWS:
            with pyarrow.ipc.open_stream(payload["arrow"]) as stream:
                count += sum(batch.num_rows for batch in stream)
    if host.wait(60) or count != int(rows):
        sys.exit(f"{count} rows arrived, {rows} expected; exit status {host.returncode}")
    print(figures["update_cpu_s"])


main()
