"""A site: everything that one scenario makes on this machine, and that is gone when it ends.

Folders, tmpfs and hugetlbfs mounts, the heartbeat sink, QEMUs, engines, threads' sockets. Leaving the
`with` block removes all of it, in whatever way it is left (Ctrl-C and the watchdog's signal included).
Every process carries MARK in its environment, so that one that nobody knows of is found.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys

from comparator.guest import start_sink
from comparator.processes import Child, Failure, Scope, is_leftover

from . import ROOT

PREFIX = "faultline-e2e-"
MARK = "FAULTLINE_E2E"
GUESTS = os.path.join(ROOT, "qemu-integration", "guests")
PROVISION = os.path.join(ROOT, "qemu-integration", "provision")
HUGE_POOL = "/proc/sys/vm/nr_hugepages"
HUGE_BYTES = 2 << 20

sys.path.insert(0, GUESTS)
import sink  # noqa: E402  (the guests' own module: reads and judges heartbeat logs)


class Skip(Exception):
    """The machine cannot run this scenario; the text says why."""


def engine_path():
    path = os.environ.get("FAULTLINE") or os.path.join(ROOT, "build", "release", "engine", "app", "faultline")
    if not os.access(path, os.X_OK):
        raise Failure(f"no faultline at {path}: build it, or say where it is with FAULTLINE=PATH")
    return path


def qemu_path(version):
    """The launcher of QEMU '7.2' (Debian's own) or '10.0' (backports, unpacked in the cache)."""
    if version == "7.2":
        return shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"
    done = subprocess.run([os.path.join(PROVISION, "qemu10")], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise Skip(f"QEMU 10 cannot be unpacked: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def sweep():
    """What a test that was killed has left behind."""
    for parent in ("/tmp", "/dev/shm"):
        for name in os.listdir(parent):
            path = os.path.join(parent, name)
            if is_leftover(name, PREFIX):
                for mount in mounts_below(path):
                    subprocess.run(["umount", "-l", mount], check=False, timeout=30)
                shutil.rmtree(path, ignore_errors=True)


def mounts_below(path):
    with open("/proc/self/mounts", encoding="utf-8") as table:
        points = [line.split()[1] for line in table]
    return sorted((p for p in points if p.startswith(path + "/")), reverse=True)


class Site(Scope):
    def __init__(self):
        super().__init__()
        sweep()
        self.mark = f"{os.getpid()}-{os.urandom(4).hex()}"
        os.environ[MARK] = self.mark
        self.folder_path = self.make_folder("/tmp")
        self.memory = self.make_folder("/dev/shm")
        self.state_dir = self.file("state")
        self.children = []
        self.numbers = {}
        self.engine = engine_path()
        self.fifo = self.beats = ""

    def new_guest(self):
        """A heartbeat recorder of its own for each guest: its counters begin at one."""
        folder = self.file(self.next_name("guest"))
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        self.fifo, self.beats, _ = start_sink(self, folder)

    def make_folder(self, parent):
        """Open to other users: some QEMUs are not root's. The name is ours alone."""
        path = os.path.join(parent, f"{PREFIX}{os.getpid()}")
        os.makedirs(path)
        os.chmod(path, 0o777)
        self.callback(shutil.rmtree, path, ignore_errors=True)
        return path

    def file(self, name):
        return os.path.join(self.folder_path, name)

    def next_name(self, kind):
        self.numbers[kind] = self.numbers.get(kind, 0) + 1
        return f"{kind}{self.numbers[kind]}"

    def start(self, command, log_path, **kwargs):
        child = super().start(command, log_path, **kwargs)
        if hasattr(self, "children"):
            self.children.append(child)
        return child

    # -- memory ------------------------------------------------------------------------------

    def mount(self, filesystem, options):
        """A mount of our own; returns its folder."""
        path = os.path.join(self.memory, self.next_name(filesystem))
        os.makedirs(path)
        done = subprocess.run(["mount", "-t", filesystem, "-o", options, "none", path],
                              capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            raise Skip(f"cannot mount {filesystem} ({options}): {done.stderr.strip()}")
        os.chmod(path, 0o777)
        self.callback(subprocess.run, ["umount", "-l", path], check=False, timeout=30)
        return path

    def huge_mount(self, mib):
        """A hugetlbfs with that much memory reserved; the pool is restored at the end. One scenario at a time:
        the pool is the machine's."""
        pool = open(HUGE_POOL, encoding="ascii")
        self.callback(pool.close)  # after it is restored
        fcntl.flock(pool, fcntl.LOCK_EX)  # the scenario's watchdog bounds it
        before = int(pool.read())
        self.callback(_write_pool, before)
        wanted = before + (mib << 20) // HUGE_BYTES
        _write_pool(wanted)
        pool.seek(0)
        if int(pool.read()) < wanted:
            raise Skip(f"the kernel cannot reserve {mib} MiB of 2 MiB pages now")
        return self.mount("hugetlbfs", "pagesize=2M")

    def huge_tmpfs(self):
        return self.mount("tmpfs", "huge=always")

    # -- the engine --------------------------------------------------------------------------

    def run_engine(self, command, *arguments, netns=None):
        """Starts `faultline COMMAND`; its stdout is in `.out`, its stderr in `.log()`."""
        name = self.next_name(command)
        with open(self.file(name + ".out"), "ab") as out:
            child = self.start([self.engine, command, *arguments], self.file(name + ".err"),
                               stdout=out, netns=netns)
        child.out = lambda: _text(out.name)
        child.send = lambda number: child.status is None and os.kill(child.pid, number)
        return child

    # -- heartbeats --------------------------------------------------------------------------

    def beat_count(self):
        return os.stat(self.beats).st_size // sink.RECORD.size

    def beat_violations(self):
        """Every proof in the log so far that not exactly one guest ran."""
        records = sink.read_log(self.beats)
        found, missing = sink.violations(records)
        texts = [text for _, text in found[:5]]
        if found[5:]:
            texts.append(f"and {len(found) - 5} more of that kind")
        if missing:
            texts.append(f"{missing} heartbeats are missing")
        if not records:
            texts.append("no heartbeat at all")
        return texts

    # -- at the end --------------------------------------------------------------------------

    def strangers(self):
        """Processes that came from this site and that it does not know: (pid, command line)."""
        known = {child.pid for child in self.children} | {os.getpid()}
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) in known:
                continue
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/environ", "rb") as environ:
                    marked = f"{MARK}={self.mark}".encode() in environ.read().split(b"\0")
                if marked:
                    found.append((int(name), _text(f"/proc/{name}/cmdline").replace("\0", " ")))
        return found


def _write_pool(pages):
    with open(HUGE_POOL, "w", encoding="ascii") as pool:
        pool.write(str(pages))


def _text(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


__all__ = ["Child", "Failure", "Site", "Skip", "qemu_path", "sink"]
