"""The door of the program: runs the Hydra app and turns users' mistakes into one line."""

import errno
import gc
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from vssl import stop
from vssl.errors import VsslError, nearest
from vssl.overrides import as_hydra_wants_it, check_words
from vssl.secrets import keep
from vssl.stop import Stopped
from vssl.terminal import steady_output

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR)

MACHINES = (errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESTALE)
"""What the machine and its file systems lack or break, and no defect of the program."""


def run(main: Callable[[], object], conf: Path) -> None:
    """Run the Hydra app `main`, whose config lies in `conf`."""
    steady_output()
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(help_text(conf))
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing its own report
    # Modules and configs stay; to look for garbage in them, again and again, takes longer than making them.
    gc.disable()
    with one_line_errors():
        sys.argv[1:] = as_hydra_wants_it([_without_password(word) for word in sys.argv[1:]])
        check_words(sys.argv[1:], groups(conf))
        check_roots(sys.argv[1:], conf)
        main()


def _without_password(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key}={keep(value)}" if key.lstrip("+") == "tracking.uri" else word


def groups(conf: Path) -> dict[str, list[str]]:
    """The choices of each group of the defaults list."""
    defaults = _surface(conf)["defaults"]
    names = [name for one in defaults if isinstance(one, dict) for name in one if (conf / name).is_dir()]
    return {name: sorted(path.stem for path in (conf / name).glob("*.yaml")) for name in names}


def check_roots(words: list[str], conf: Path) -> None:
    """Raise `VsslError` for the folder of a data set (`+roots.NAME=DIR`) that no file of the config has."""
    added = [found[1] for word in words if (found := re.match(r"\+\+?roots\.(\w+)=", word))]
    if not added:
        return
    asked = re.findall(
        r"\$\{roots\.(\w+)\}", "".join(path.read_text("utf-8") for path in conf.rglob("*.yaml"))
    )
    for name in set(added) - {*asked, *_surface(conf)["roots"]}:
        raise VsslError(f"roots.{name}: no file of conf/ has ${{roots.{name}}}; {nearest(name, set(asked))}")


def _surface(conf: Path) -> dict[str, Any]:
    surface: dict[str, Any] = yaml.safe_load((conf / "config.yaml").read_text(encoding="utf-8"))
    return surface


def help_text(conf: Path) -> str:
    """What Hydra's own --help says, which takes a second to list the groups."""
    template: str = _surface(conf)["hydra"]["help"]["template"]
    groups: dict[str, list[str]] = {}
    for path in sorted(conf.glob("*/**/*.yaml")):
        groups.setdefault(str(path.parent.relative_to(conf)), []).append(path.stem)
    listed = [f"{group}: {', '.join(choices)}" for group, choices in sorted(groups.items())]
    return template.replace("$APP_CONFIG_GROUPS", "\n".join(listed) + "\n")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Exit with 1 after one clear line for a user's mistake; a defect of the program keeps its traceback."""
    try:
        yield
    except VsslError as error:
        _stop(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _stop(explain(error))
    except OSError as error:
        if error.errno in NO_SPACE:
            _stop(f"no space left for {error.filename or 'outputs'}; free some, the same command continues")
        if error.errno in NOT_ALLOWED:
            _stop(f"{error.filename}: {error.strerror}; change that, or say outputs=DIR to write elsewhere")
        if error.errno in MACHINES:
            _stop(f"{error.filename or 'outputs'}: {error.strerror}; mend that, the same command continues")
        raise
    except (Stopped, KeyboardInterrupt) as asked:
        stop.end_at_once()
        line, code = (str(asked), asked.exit_code) if isinstance(asked, Stopped) else ("interrupted", 130)
        _stop(f"{line}; the same command continues from the last checkpoint", code)
    except Exception as error:
        if not _is_hydras(error):
            raise
        _stop(f"Hydra cannot make sense of these options ({explain(error)}); --help lists the groups")


def explain(error: BaseException) -> str:
    """Say a composition error in one line, with the nearest valid option."""
    word = error.override if isinstance(error, OverrideParseException) else ""
    if found := re.match(r"Error parsing override '([^'=]+)'\s", str(error)):
        word = found[1]
    if word:
        mode = f"say mode={word} for a mode, " if re.fullmatch(r"\w+", word) else ""
        return f"{word}: an option is key=value; {mode}--help lists the groups"
    if values := re.match(r"Ambiguous value for argument '(.*?)'\s", str(error)):
        return f"{values[1]}: several values; add -m to run each, or write a list in brackets: [1,2]"
    for cause in _causes(error):
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
            group, _, choice = cause.missing_cfg_file.rpartition("/")
            remedy = nearest(choice, cause.options) if cause.options else "--help lists the choices"
            return f"{group}={choice}: no such choice; {remedy}"
        parent = getattr(cause, "parent_node", None)
        if isinstance(parent, DictConfig) and cause.key is not None:  # type: ignore[attr-defined]
            return _explain_key(cause, parent)
    return " ".join(str(error).split())


def _explain_key(error: BaseException, parent: DictConfig) -> str:
    where, key = getattr(error, "full_key", None) or "", str(getattr(error, "key", ""))
    if "is not in struct" in str(error) and not parent:  # Hydra has made an empty node of null
        node = where.rpartition(".")[0]
        return f"{where}: {node} is null; set all of it, {node}={{_target_:CLASS,{key}:...}}"
    if "is not in struct" in str(error):
        return f"{where}: no such option; {nearest(key, map(str, parent))}"
    if missing := re.search(r"Missing mandatory value: (\S+)", str(error)):
        where = missing[1] if "." in missing[1] else where  # the value itself, not one that refers to it
        return f"{where}: needs a value, for example {where}=..."
    if isinstance(error, GrammarParseError):
        return f"{where}: ${{ begins a reference to another option, ${{a.b}}; end it with a bracket"
    if found := re.match(r"Interpolation key '(\S+)' not found", str(error)):
        return f"{where}: refers to {found[1]}, which there is not; set it, or leave a ~{found[1]} out"
    return f"{where}: {str(error).splitlines()[0]}"


def _is_hydras(error: BaseException) -> bool:
    """Whether Hydra itself came to grief, and nothing that it had called."""
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return str(last.f_globals.get("__name__")).partition(".")[0] in ("hydra", "omegaconf", "antlr4")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _stop(line: str, code: int = 1) -> None:
    print("vssl:", line.replace("\n", "\\n"), file=sys.stderr)
    sys.exit(code)
