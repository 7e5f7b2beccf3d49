"""Owns what a figure must say about where it was measured."""

import datetime
import os
import platform


def describe():
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30), 1),
        "kernel": platform.release(),
        "system": system_name(),
        "python": platform.python_version(),
        "load_at_start": load(),
    }


def load():
    """The load average of the last minute: figures of a busy machine say little."""
    return round(os.getloadavg()[0], 2)


def cpu_name():
    with open("/proc/cpuinfo") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def system_name():
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def sentence(machine):
    return (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, {machine['system']}, kernel"
        f" {machine['kernel']}, Python {machine['python']}; load {machine['load_at_start']} at the start"
    )
