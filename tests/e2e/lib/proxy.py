"""A relay between `migrate` and `receive` that knows the protocol's messages and cuts where told.

Everything crosses unchanged until `decide(message)` says that this message is not to pass: then all
connections are closed (or, with `only`, those of one lane). It reads the layouts of
engine/core/wire.h: preamble 40 bytes (lane in byte 10), its answer 16, frames 8 + length on the
control lane; page lanes are passed on as bytes, announced as a message "MiBn" once a MiB if `pages`.
"""

import contextlib
import dataclasses
import socket
import struct
import threading

LANES = {1: "control", 2: "urgent", 3: "bulk"}
FRAMES = dict(enumerate(
    ("Hello", "Welcome", "Refuse", "Extents", "ExtentsDone", "Prepared", "DeviceState", "Stopped",
     "Holes", "HolesDone", "Loaded", "Go", "Started", "Progress", "Released", "Farewell", "Abort",
     "RdmaRegions", "RdmaOffer", "RdmaAnswer", "RdmaCurrent", "FirstPages", "EarlyPages",
     "Unchanged", "EarlyDone", "Saved"), 1))
PREAMBLE_BYTES, ANSWER_BYTES, HEADER = 40, 16, struct.Struct("<IHH")
CHUNK = 1 << 18
PATIENCE = 30.0


@dataclasses.dataclass(frozen=True)
class Message:
    number: int  # from 1, over all connections
    lane: str
    forward: bool  # from the source to the destination
    name: str

    def __str__(self):
        return f"{self.number} {self.lane} {'->' if self.forward else '<-'} {self.name}"


class Pair:
    """One connection: the source's socket and ours to the destination."""

    def __init__(self, near, far):
        self.near, self.far, self.lane = near, far, "?"

    def close(self):
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    def __init__(self, site, decide=lambda message: False, only=None, pages=False):
        self.decide, self.only, self.pages = decide, only, pages
        self.mangle = lambda message, data: data  # what passes instead
        self.seen, self.cuts, self.refusing = [], [], False
        self.pairs, self.lock, self.closing = [], threading.Lock(), False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = None
        site.callback(self.close)

    def between(self, address):
        """For Transfer's `via`: where the source dials instead."""
        host, port = address.rsplit(":", 1)
        self.target = (host, int(port))
        threading.Thread(target=self._accept, daemon=True).start()
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def close(self):
        self.closing = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self, lane=None):
        with self.lock:
            for pair in self.pairs:
                if lane is None or pair.lane == lane:
                    pair.close()
            self.pairs = [pair for pair in self.pairs if lane is not None and pair.lane != lane]

    def names(self):
        return [message.name for message in self.seen]

    # -- inside ------------------------------------------------------------------------------

    def _accept(self):
        while not self.closing:
            try:
                near, _ = self.listener.accept()
                if self.refusing:
                    near.close()
                    continue
                far = socket.create_connection(self.target, timeout=PATIENCE)
            except OSError:
                continue
            far.settimeout(None)
            pair = Pair(near, far)
            with self.lock:
                self.pairs.append(pair)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for forward in (True, False):
                threading.Thread(target=self._pump, args=(pair, forward), daemon=True).start()

    def _pump(self, pair, forward):
        source, target = (pair.near, pair.far) if forward else (pair.far, pair.near)
        with contextlib.suppress(OSError, EOFError):
            self._opening(pair, source, target, forward)
            if pair.lane == "control":
                while True:
                    header = _read(source, HEADER.size)
                    length, kind, _ = HEADER.unpack(header)
                    self._pass(pair, forward, FRAMES.get(kind, str(kind)), target,
                               header + _read(source, length))
            carried = 0
            while data := source.recv(CHUNK):
                carried += len(data)
                if self.pages and carried >> 20 != (carried - len(data)) >> 20:
                    self._pass(pair, forward, f"MiB{carried >> 20}", target, data)
                else:
                    target.sendall(data)
        # Only this direction: what is under way in the other one still arrives.
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _opening(self, pair, source, target, forward):
        data = _read(source, PREAMBLE_BYTES if forward else ANSWER_BYTES)
        if forward:
            pair.lane = LANES.get(data[10], "?")
        self._pass(pair, forward, "Preamble" if forward else "PreambleReply", target, data)

    def _pass(self, pair, forward, name, target, data):
        with self.lock:
            message = Message(len(self.seen) + 1, pair.lane, forward, name)
            self.seen.append(message)
            cut = self.decide(message)
            if cut:
                self.cuts.append(message)
        if cut:
            self.cut(self.only)
            if self.only in (None, pair.lane):
                raise EOFError
        target.sendall(self.mangle(message, data))


def _read(source, count):
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
