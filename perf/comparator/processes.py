"""Child processes that never outlive the comparison, and the files that go with it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

RUN_PREFIX = "faultline-perf-"
STOP_SECONDS = 5.0


class Failure(Exception):
    """Something that the comparison needs did not work; the text is for a person."""


class Child:
    """One process. A thread of its own waits for it, so that its end has a time and a resource usage.

    `setpriv --pdeathsig` ends it even where the comparison itself is killed. Start it from the main
    thread only: the kernel sends that signal when the *thread* that forked ends (prctl(2)).
    """

    def __init__(self, command, log_path, stdout=None, netns=None):
        enter = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []
        self.name = os.path.basename(str(command[0]))
        self.log_path = log_path
        self.end_ns = self.status = self.usage = None
        with open(log_path, "ab") as log:
            self.start_ns = time.monotonic_ns()
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *enter, *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log, start_new_session=True)
        self.pid = self._popen.pid
        self.stdout = self._popen.stdout
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self):
        _, status, usage = os.wait4(self.pid, 0)
        self.end_ns = time.monotonic_ns()
        self.usage = usage
        self.status = self._popen.returncode = os.waitstatus_to_exitcode(status)

    def wait(self, seconds):
        """Its exit status, or None if it still runs then."""
        self._thread.join(seconds)
        return self.status

    def cpu_seconds(self):
        """User and system time of its whole life; only after its end."""
        return self.usage.ru_utime + self.usage.ru_stime

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self):
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            if self.status is not None:
                break
            # The waiting thread may reap it meanwhile: then there is nothing to end.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal_number)
            self._thread.join(STOP_SECONDS)
        if self.stdout:
            self.stdout.close()


class Scope(contextlib.ExitStack):
    """What one run has made; leaving it, however that happens, removes all of it."""

    def start(self, *args, **kwargs):
        child = Child(*args, **kwargs)
        self.callback(child.stop)
        return child

    def folder(self, parent, name):
        """A folder parent/faultline-perf-PID-name, removed with the scope."""
        path = os.path.join(parent, f"{RUN_PREFIX}{os.getpid()}-{name}")
        os.makedirs(path, mode=0o700)
        self.callback(shutil.rmtree, path, ignore_errors=True)
        return path


def is_leftover(name, prefix):
    """Whether the name has our form and the process that made it is gone."""
    digits = name.removeprefix(prefix).split("-")[0]
    return name.startswith(prefix) and digits.isdigit() and not os.path.exists(f"/proc/{digits}")


def sweep_folders():
    """What a comparison that was killed has left on disk."""
    for name in os.listdir("/tmp"):
        if is_leftover(name, RUN_PREFIX):
            shutil.rmtree(os.path.join("/tmp", name), ignore_errors=True)


def end_on_signals():
    """SIGTERM and SIGHUP unwind like Ctrl-C does."""

    def unwind(signal_number, _frame):
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # nothing interrupts the clean-up
        raise KeyboardInterrupt(signal.Signals(signal_number).name)

    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, unwind)


def wait_until(condition, seconds, what, child=None):
    """Polls every 5 ms; Failure with `what` when the time is over or the child has ended."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if child is not None and child.status is not None:
            raise Failure(f"{what}: {child.name} exited with {child.status}: {child.log()[-2000:]}")
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.005)


def connect_unix(path, what, child):
    """A socket connected to `path` as soon as `child` listens there."""
    connected = socket.socket(socket.AF_UNIX)

    def connects():
        try:
            connected.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    wait_until(connects, 120, what, child)  # emulated in a laboratory on a busy machine: slow
    return connected
