"""Modules that an option names: a file that is put into the package is found, no list names it.

And where other processes find the package.
"""

import importlib
import os
import pkgutil
from pathlib import Path
from types import ModuleType

from vssl.errors import OptionError, nearest


def check_module(package: str, option: str, name: object) -> None:
    """Raise `OptionError` if the package has no module of this name; that module is not imported."""
    names = [module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__)]
    if name not in names:
        raise OptionError(option, name, f"no such {option}", nearest(str(name), names))


def load_module(package: str, option: str, name: str) -> ModuleType:
    """Import a module of the package; raises `OptionError` if there is none of this name."""
    check_module(package, option, name)
    return importlib.import_module(f"{package}.{name}")


def python_path() -> str:
    """PYTHONPATH for other processes: vssl as it is imported here comes first, installed or not."""
    root = str(Path(__file__).parent.parent)
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
