"""What every refusal has in common: one clear line, the right exit code, and a guest that runs on."""

from .move import beats_on, require
from .transfer import TRACE, error_lines

REFUSED_SECONDS = 45


def one_line(child, name, word=None):
    """Exactly one error line, no trace; with `word` in it."""
    text = child.log()
    lines = error_lines(text)
    require(len(lines) == 1, f"{name} said {len(lines)} error lines instead of one:\n{text}")
    require(not TRACE.search(text), f"{name} shows its insides:\n{text}")
    if word is not None:
        require(word.lower() in lines[0].lower(), f"{name}: no {word!r} in: {lines[0]}")
    return lines[0]


def refuses(child, name, word=None, code=1, seconds=REFUSED_SECONDS):
    """The engine ends with that exit code and one line."""
    status = child.wait(seconds)
    require(status == code, f"{name} exited with {status} (None: still running), not {code}:\n{child.log()}")
    line = one_line(child, name, word)
    print(f"{name}: {line}")
    return line


def source_runs_on(move, what):
    """The guest runs where it was, as if nobody had tried."""
    status = move.source.status()
    require(status == "running", f"the source is '{status}' after: {what}")
    beats_on(move.site, what)
    require(not move.source.console.complaints(), f"{move.source.console.complaints()}")
    violations = move.site.beat_violations()
    require(not violations, f"{what}: {violations}")


def clean(move, before, what, destination=True):
    """`destination=False`: its QEMU had begun to load and is useless; the engine says to end it."""
    nodes = {node: had for node, had in before.items() if destination or node is not move.destination}
    problems = move.left_behind(nodes)
    require(not problems, f"left behind by {what}: {problems}")
