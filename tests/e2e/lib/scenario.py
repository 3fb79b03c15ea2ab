"""The register of scenarios. A scenario is a function of one Site; its name is a sentence."""

import dataclasses
import importlib
from typing import Callable

SCENARIOS = {}
FILES = ("move", "memory", "options", "refusal", "room", "cores", "cut", "kill", "guests", "soak")


@dataclasses.dataclass(frozen=True)
class Scenario:
    body: Callable
    seconds: int
    site: bool  # False: it makes its own


def add(name, body, seconds=150, site=True):
    assert name not in SCENARIOS, name
    SCENARIOS[name] = Scenario(body, seconds, site)


def scenario(seconds=150):
    """Registers the function as FILE.function_name."""

    def register(body):
        file = body.__module__.removesuffix("_test")
        add(f"{file}.{body.__name__}", body, seconds)
        return body

    return register


def load():
    for file in FILES:
        try:
            importlib.import_module(f"{file}_test")
        except ModuleNotFoundError as missing:
            if missing.name != f"{file}_test":
                raise
