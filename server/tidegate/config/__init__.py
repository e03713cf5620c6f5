"""Settings from file, environment and command line, checked; each mistake told by its line.

`read` gathers them, `check` makes `Settings` of them: `check(read(path), schemas)`.
"""

from tidegate.config.checking import Settings, check
from tidegate.config.problem import ConfigError, Problem
from tidegate.config.sources import Raw, read
from tidegate.settings import Namespace

__all__ = ("ConfigError", "Namespace", "Problem", "Raw", "Settings", "check", "read")
