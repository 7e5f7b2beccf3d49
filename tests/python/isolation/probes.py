"""The escape checklist as code: each probe tries one thing that a connector must not be able to do, against a target that
is there. It returns what it got; an exception or nothing means that it was denied.

Run by itself (`probes.py TARGETS`) without a sandbox, every probe must succeed: then none is denied because its target is
missing. `targets` is what test_isolation.py planted.
"""

import ctypes
import json
import mmap
import os
import pathlib
import socket
import struct
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND, PTRACE_ATTACH, PTRACE_DETACH = 4096, 16, 17
CLONE_NEWUSER = 0x10000000
SECONDS = 2


def called(result):
    """The result of a C call, or its error."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def in_child(action):
    """What the action does in a process of its own: namespaces and mounts stay there."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if action() else 1)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def read(path):
    return pathlib.Path(path).read_bytes()[:16]


def connected(address, family=socket.AF_INET, say=b"GET / HTTP/1.0\r\n\r\n"):
    """The first bytes of whoever answers there."""
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.settimeout(SECONDS)
        stream.connect(address)
        stream.sendall(say)
        return stream.recv(64)


def attached(pid):
    called(LIBC.ptrace(PTRACE_ATTACH, pid, None, None))
    os.waitpid(pid, 0x40000000)
    LIBC.ptrace(PTRACE_DETACH, pid, None, None)
    return True


def traced(targets):
    try:
        return attached(targets["pid"])
    except OSError:
        # Where the target cannot be named, not even a child of one's own may be traced.
        child = subprocess.Popen(["sleep", "30"])
        try:
            return attached(child.pid)
        finally:
            child.kill()
            child.wait()


def asked_dns(server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.settimeout(SECONDS)
        stream.connect((server, 53))
        stream.send(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04leak\x07example\x00\x00\x01\x00\x01")
        return stream.recv(64)


def opened_sockets():
    raw = [(socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_PACKET, socket.SOCK_RAW, 0), (socket.AF_NETLINK, socket.SOCK_RAW, 0),
           (socket.AF_VSOCK, socket.SOCK_STREAM, 0)]
    got = []
    for family, kind, protocol in raw:
        try:
            socket.socket(family, kind, protocol).close()
            got.append(int(family))
        except OSError:
            pass
    return got


def written(path):
    """Into a file that is there: the same path may be free for a new one."""
    with open(path, "r+", encoding="utf-8") as file:
        file.seek(0, os.SEEK_END)
        file.write("x")
    return True


def linked(targets):
    """Through links that lie in the connector's own folder, to a file outside of it."""
    got, home = [], pathlib.Path(os.environ["HOME"])
    for name, make in (("soft", os.symlink), ("hard", os.link)):
        place = home / f"link-{name}-{os.getpid()}"
        try:
            make(targets["outside"], place)
            got.append(written(place))
        except OSError:
            pass
        finally:
            place.unlink(missing_ok=True)
    return got


def ran_setuid(targets):
    shown = subprocess.run([targets["setuid"], "-u"], capture_output=True, text=True, check=True).stdout.strip()
    return shown == targets["setuid_user"]


def mounted():
    return in_child(lambda: called(LIBC.mount(b"none", os.environ["HOME"].encode(), b"tmpfs", 0, None)) == 0
                    and called(LIBC.umount2(os.environ["HOME"].encode(), 2)) == 0)


def kept_key():
    number = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
    key = called(LIBC.syscall(number[0], b"user", b"inshore-probe", b"secret", 6, -2))
    buffer = ctypes.create_string_buffer(16)
    called(LIBC.syscall(number[1], 11, key, buffer, 16))
    return buffer.value


def kernel_files():
    got = []
    for path in ("/proc/kcore", "/dev/kmsg"):
        try:
            with open(path, "rb", buffering=0) as file:
                os.set_blocking(file.fileno(), False)
                got += [path] if file.read(16) else []
        except OSError:
            pass
    try:
        with open("/sys/kernel/mm/ksm/run", "r+", encoding="ascii") as file:
            value = file.read()
            file.seek(0)
            file.write(value.strip())
        got.append("/sys")
    except OSError:
        pass
    return got


def kernel_calls():
    """io_uring_setup, bpf, userfaultfd, perf_event_open: the descriptors they give."""
    numbers = {"x86_64": (425, 321, 323, 298), "aarch64": (425, 280, 282, 241)}[os.uname().machine]
    parameters = ctypes.create_string_buffer(256)
    array = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 8, 1), 128)  # a map of the kind array
    event = ctypes.create_string_buffer(struct.pack("IIQ", 1, 128, 0), 128)
    calls = [(numbers[0], 4, parameters), (numbers[1], 0, array, 128), (numbers[2], 0), (numbers[3], event, 0, -1, -1, 0)]
    descriptors = [LIBC.syscall(*call) for call in calls]
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
    return [number for number, descriptor in enumerate(descriptors) if descriptor >= 0]


def writable_code():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    return True


def commands():
    lines = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines.append((entry / "cmdline").read_bytes())
            except OSError:
                pass
    return lines


# The numbers are those of the checklist. 27 to 30 bound what a connector uses; see bombs.py.
PROBES = {
    1: lambda t: read(t["identity"]),
    2: lambda t: read(t["other_job"]),
    3: lambda t: read(t["policy_secret"]),
    4: lambda t: any(t["command"].encode() in line for line in commands()),
    5: traced,
    6: lambda t: os.kill(t["pid"], 0) is None and t["command"].encode() in pathlib.Path(f"/proc/{t['pid']}/cmdline").read_bytes(),
    7: lambda t: connected(t["agent_socket"], socket.AF_UNIX),
    8: lambda t: connected("\0" + t["abstract"], socket.AF_UNIX),
    9: lambda t: connected("/run/dbus/system_bus_socket", socket.AF_UNIX),
    10: lambda t: [connected(path, socket.AF_UNIX) for path in
                   ("/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock")],
    11: lambda t: connected((t["internet"], 80)),
    12: lambda t: asked_dns(t["internet"]),
    13: lambda t: connected(("169.254.169.254", 80)),
    14: lambda t: connected((t["private"], 80)),
    15: lambda t: connected((t["listed"], t["other_port"])),
    16: lambda t: connected((t["six"], 80), socket.AF_INET6),
    17: lambda t: opened_sockets(),
    18: lambda t: written(t["outside"]),
    19: linked,
    20: ran_setuid,
    21: lambda t: in_child(lambda: called(LIBC.unshare(CLONE_NEWUSER)) == 0),
    22: lambda t: mounted(),
    23: lambda t: kept_key(),
    24: lambda t: kernel_files(),
    25: lambda t: kernel_calls(),
    26: lambda t: writable_code(),
}


def run(targets):
    """Number → what the probe got; what was denied is missing."""
    got = {}
    for number, probe in PROBES.items():
        try:
            result = probe(targets)
        except Exception as error:  # whatever stops it
            print(f"probe {number}: {error!r}", file=sys.stderr)
            continue
        if result:
            got[number] = repr(result)
    return got


if __name__ == "__main__":
    print(json.dumps(run(json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")))))
