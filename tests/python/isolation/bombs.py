"""What a connector uses without bound: probes 27 to 30. Each goes beyond the limits that test_isolation.py sets, and ends
by itself where nothing stops it: run with a name as argument it must come to its end.
"""

import os
import pathlib
import subprocess
import sys
import time

PROCESSES, MEMORY_MIB, DISK_MIB, LINES = 300, 700, 96, 20_000


def processes():
    children = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            time.sleep(5)
            os._exit(0)
        children.append(pid)
    time.sleep(1)
    return [os.waitpid(pid, 0)[0] for pid in children]


def memory():
    held = [bytearray(os.urandom(1 << 20)) for _ in range(MEMORY_MIB)]
    time.sleep(3)
    return len(held)


def disk():
    """In files that have no name any more, which no listing of the folder shows."""
    held = []
    for number in range(DISK_MIB // 8):
        path = pathlib.Path(os.environ["HOME"]) / f"fill-{number}"
        file = open(path, "wb")
        path.unlink()
        for _ in range(8):
            file.write(os.urandom(1 << 20))
        file.flush()
        held.append(file)
    time.sleep(4)
    return len(held)


def log():
    for number in range(LINES):
        print(f"line {number} of a flood", flush=True)
    return LINES


def outlive(name):
    """A daemon as daemons are made: two forks, a session of its own, an empty environment."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(nowhere, number)
            os.execve("/usr/bin/sleep", ["sleep", name], {})
        os._exit(0)
    os.wait()
    time.sleep(0.5)
    return True


if __name__ == "__main__":
    if sys.argv[1] == "outlive":
        outlive(sys.argv[2])
    else:
        {"processes": processes, "memory": memory, "disk": disk, "log": log}[sys.argv[1]]()
    print("done")
    subprocess.run(["true"], check=True)
