"""A second QMP connection to each QEMU, beside the engine's: events with times, and commands."""

import json
import threading
import time

from .processes import Failure, connect_unix, wait_until


def _monotonic_of(timestamp):
    """QEMU stamps its events with the wall clock: exact, whenever the comparison gets to read them."""
    wall_ns = timestamp["seconds"] * 10**9 + timestamp["microseconds"] * 1000
    return wall_ns - time.time_ns() + time.monotonic_ns()


class Qmp:
    def __init__(self, path, qemu):
        self._socket = connect_unix(path, f"QMP socket {path}", qemu)
        self.events = []  # (monotonic ns, name, data)
        self._replies = []
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.command("qmp_capabilities")

    def _read(self):
        for line in self._socket.makefile("rb"):
            message = json.loads(line)
            with self._changed:
                if "event" in message:
                    self.events.append((_monotonic_of(message["timestamp"]), message["event"],
                                        message.get("data", {})))
                elif "QMP" not in message:
                    self._replies.append(message)
                self._changed.notify_all()

    def command(self, name, arguments=None, timeout_s=30):
        message = {"execute": name, "arguments": arguments or {}}
        with self._changed:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            if not self._changed.wait_for(lambda: self._replies, timeout_s):
                raise Failure(f"QMP {name}: no answer within {timeout_s} s")
            reply = self._replies.pop(0)
        if "error" in reply:
            raise Failure(f"QMP {name}: {reply['error'].get('desc')}")
        return reply["return"]

    def _find(self, name, after_ns, fields):
        for when, event, data in self.events:
            if event == name and when >= after_ns and fields.items() <= data.items():
                return when
        return None

    def last(self, name):
        """When the newest event of that name came, or None."""
        with self._changed:
            return max((when for when, event, _ in self.events if event == name), default=None)

    def wait_event(self, name, after_ns, timeout_s, **fields):
        """When the first such event since then came."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._find(name, after_ns, fields), timeout_s)
        if not found:
            raise Failure(f"no QMP event {name} {fields} within {timeout_s} s")
        return found

    def close(self):
        self._socket.close()
