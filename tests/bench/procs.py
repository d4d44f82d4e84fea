"""What /proc tells of processes: who belongs to whom, their CPU time, memory and descriptors."""

import gzip
import os
import platform
import re
from pathlib import Path

ENGINE_NAMES = ("iottalk-engine", "iottalk-keeper")


def process_table():
    """pid -> (parent pid, name) of every process that is not a zombie."""
    table = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path("/proc", entry, "stat").read_text()
        except OSError:
            continue
        name, rest = re.match(r"\d+ \((.*)\) (.*)", stat, re.S).groups()
        fields = rest.split()
        if fields[0] != "Z":
            table[int(entry)] = (int(fields[1]), name)
    return table


def command_line(pid):
    try:
        return Path("/proc/%d/cmdline" % pid).read_text(errors="replace")
    except OSError:
        return ""


def engines_of(agent, folder):
    """Pids of keeper and engines of an agent: below it, or on their own by now (the keeper leaves its parent, so that it
    outlives it) with a path in the suite's folder among their arguments."""
    table = process_table()
    found = []
    for pid, (parent, name) in table.items():
        if name not in ENGINE_NAMES:
            continue
        while parent not in (0, 1, agent) and parent in table:
            parent = table[parent][0]
        if parent == agent or str(folder) + "/" in command_line(pid):
            found.append(pid)
    return sorted(found)


def cpu_s(pid):
    """CPU time of all threads of a process; 0 if it is gone."""
    tasks = "/proc/%d/task" % pid
    try:
        return sum(int(Path(tasks, t, "schedstat").read_text().split()[0]) for t in os.listdir(tasks)) / 1e9
    except OSError:
        return 0


def interrupts_are_apart():
    """Does this kernel keep the time of interrupts out of the CPU time of the process that was interrupted? With all data going
    over the loopback it is mostly ours, so it must be left out of the machine's time exactly if it is."""
    config = b""
    for path in ("/proc/config.gz", "/boot/config-" + platform.release()):
        try:
            config = Path(path).read_bytes()
        except OSError:
            continue
        if path.endswith(".gz"):
            config = gzip.decompress(config)
        break
    return b"\nCONFIG_IRQ_TIME_ACCOUNTING=y" in config


INTERRUPTS_APART = interrupts_are_apart()


def cpu_s_of_machine():
    """CPU time that processes, and other guests of the hypervisor, used."""
    user, nice, system, _, _, hard, soft, stolen = (int(n) for n in open("/proc/stat").readline().split()[1:9])
    used = user + nice + system + stolen + (0 if INTERRUPTS_APART else hard + soft)
    return used / os.sysconf("SC_CLK_TCK")


def _rollup_kb(pid, field):
    try:
        text = Path("/proc/%d/smaps_rollup" % pid).read_text()
    except OSError:
        return 0
    return int(re.search(r"^%s:\s+(\d+)" % field, text, re.M)[1])


def proportional_kb(pid):
    """What a process holds, what it shares divided by those who share it (PSS). 0 if it is gone."""
    return _rollup_kb(pid, "Pss")


def private_kb(pid):
    """What a process has for itself and has written to, so that it does not depend on who else runs the same program. 0 if it is
    gone."""
    return _rollup_kb(pid, "Private_Dirty")


def resident_kb(pid, fields):
    """Sum of fields of /proc/PID/status: RssAnon, RssFile, RssShmem. 0 if it is gone."""
    try:
        text = Path("/proc/%d/status" % pid).read_text()
    except OSError:
        return 0
    return sum(int(kb) for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M) if name in fields)


def open_descriptors(pid):
    try:
        return len(os.listdir("/proc/%d/fd" % pid))
    except OSError:
        return 0
