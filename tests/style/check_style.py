#!/usr/bin/env python3
"""The structure's rules, checked: file and function length, include direction, stray words.

Usage: check_style.py ROOT. Prints one line per violation; exit status 1 if there is any.
"""
import pathlib
import re
import subprocess
import sys

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100

# Who may include whom (ARCHITECTURE.md, "Folders"). Tests and perf see all.
MAY_INCLUDE = {
    "engine/core": {"engine/core"},
    "engine/tcp": {"engine/core", "engine/tcp"},
    "uffd": {"engine/core", "uffd"},
    "rdma": {"engine/core", "rdma"},
    "qemu-integration": {"engine/core", "qemu-integration"},
    "qemu-integration/guests": {"qemu-integration/guests"},  # freestanding, built on their own
    "engine/app": {"engine/core", "engine/tcp", "engine/app", "uffd", "rdma", "qemu-integration"},
}
# engine/core is pure: nothing of the operating system.
SYSTEM_HEADER = re.compile(r"#include <(sys/|linux/|unistd|fcntl|poll|pthread|netinet|arpa/|liburing)")
OUR_INCLUDE = re.compile(r'#include "([^"]+)"')


def sources(root):
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-co", "--exclude-standard"],
        capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\n"):
        path = pathlib.Path(root, name)
        if name and path.is_file():
            yield name, path


def layer_of(name):
    matches = [layer for layer in MAY_INCLUDE if name.startswith(layer + "/")]
    return max(matches, key=len, default=None)


def check_includes(name, lines):
    layer = layer_of(name)
    for number, line in enumerate(lines, 1):
        if layer == "engine/core" and SYSTEM_HEADER.match(line):
            yield f"{name}:{number}: engine/core includes a system header: {line.strip()}"
        match = OUR_INCLUDE.match(line)
        if not match or layer is None:
            continue
        if layer == "qemu-integration/guests" and "/" not in match.group(1):
            continue
        target = layer_of(match.group(1))
        if target is None or target not in MAY_INCLUDE[layer]:
            yield f"{name}:{number}: {layer} must not include {match.group(1)}"


def check_functions(name, lines):
    """A function body opens with '{' at the end of a line that starts in column 0 (or inside a
    class, at two spaces) and ends with '}' at the same indentation: clang-format sees to that."""
    opened = None
    for number, line in enumerate(lines, 1):
        indent = len(line) - len(line.lstrip(" "))
        text = line.strip()
        if opened is None and text.endswith("{") and ("(" in text or text.startswith(":") or ")" in text):
            if indent <= 4 and not re.match(r"\s*(if|for|while|switch|do|else|namespace|struct|class|enum|union)\b", line):
                opened = (number, indent)
        elif opened is not None and text.startswith("}") and indent <= opened[1]:
            if number - opened[0] > FUNCTION_LINES_MAX:
                yield f"{name}:{opened[0]}: function of {number - opened[0]} lines (at most {FUNCTION_LINES_MAX})"
            opened = None


def check_file(name, path):
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) > FILE_LINES_MAX:
        yield f"{name}: {len(lines)} lines (at most {FILE_LINES_MAX})"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX and "http" not in line:
            yield f"{name}:{number}: {len(line)} columns (at most {COLUMNS_MAX})"
    yield from check_includes(name, lines)
    if name.endswith((".cc", ".h")):
        yield from check_functions(name, lines)


def main():
    root = sys.argv[1]
    checked, problems = 0, []
    for name, path in sources(root):
        if name.endswith((".h", ".cc", ".c")):
            checked += 1
            problems.extend(check_file(name, path))
    print("\n".join(problems))
    print(f"{checked} files checked, {len(problems)} problems")
    return 1 if problems or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
