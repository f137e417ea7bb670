"""The door of the program: runs the Hydra app and turns users' mistakes into one line."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vssl.errors import VsslError, nearest
from vssl.stop import Stopped

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def run(main: Callable[[], object], conf: Path) -> None:
    """Run the Hydra app `main`, whose config lies in `conf`."""
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(help_text(conf))
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing its own report
    sys.argv[1:] = as_hydra_wants_it(sys.argv[1:])
    with one_line_errors():
        main()


def help_text(conf: Path) -> str:
    """What Hydra's own --help says, which takes a second to list the groups."""
    template: str = yaml.safe_load((conf / "config.yaml").read_text())["hydra"]["help"]["template"]
    groups: dict[str, list[str]] = {}
    for path in sorted(conf.glob("*/**/*.yaml")):
        groups.setdefault(str(path.parent.relative_to(conf)), []).append(path.stem)
    listed = [f"{group}: {', '.join(choices)}" for group, choices in sorted(groups.items())]
    return template.replace("$APP_CONFIG_GROUPS", "\n".join(listed) + "\n")


def as_hydra_wants_it(words: list[str]) -> list[str]:
    """Command-line words in Hydra's grammar, which takes no flag after the first override, and a `+` only and
    always before a group that the defaults list has not: people write `mode=plan -m`, `+experiment=quick` and
    `sweeps=table4`. A key of digits is no number, and paths hold more than the grammar takes. A sweep file is
    always a multirun."""
    words = [word.removeprefix("+") if word.startswith("+experiment=") else word for word in words]
    words = [f"+{word}" if word.startswith("sweeps=") else word for word in words]
    words = [re.sub(r"^stage=(\w+)$", r"stage='\1'", word) for word in words]
    words = [_quoted(word) for word in words]
    if any(word.startswith("+sweeps=") for word in words) and not any(word.startswith("-") for word in words):
        words = ["-m", *words]
    return sorted(words, key=lambda word: word not in ("-m", "--multirun"))


def _quoted(word: str) -> str:
    """`key=value` with the value in quotes if it has none but needs them: ~/videos, it's, ü, a(1)."""
    key, equals, value = word.partition("=")
    is_hydras_own = re.search(r'[,{}$"\[\]\\]', value) or re.match(r"'|\w+\(.*\)$", value)
    needs_quotes = re.search(r"[~=()']|[^\x00-\x7f]", value)
    is_flag = word.startswith("-")
    return f'{key}="{value}"' if equals and needs_quotes and not is_hydras_own and not is_flag else word


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Exit with 1 after one clear line for a user's mistake; a defect of the program keeps its traceback."""
    try:
        yield
    except VsslError as error:
        _stop(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _stop(explain(error))
    except BrokenPipeError:  # the reader of `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno in NO_SPACE:
            _stop(f"no space left for {error.filename or 'outputs'}; free some, the same command continues")
        if error.errno in NOT_ALLOWED:
            _stop(f"{error.filename}: {error.strerror}; change that, or say outputs=DIR to write elsewhere")
        raise
    except Stopped as stopped:
        _stop(f"{stopped}; the same command continues from the last checkpoint", code=stopped.exit_code)
    except KeyboardInterrupt:
        _stop("interrupted; the same command continues from the last checkpoint", code=130)


def explain(error: BaseException) -> str:
    """Say a composition error in one line, with the nearest valid option."""
    if word := re.match(r"Error parsing override '([^'=]+)'\s", str(error)):
        return f"{word[1]}: an option is key=value; say mode={word[1]} for a mode, --help lists the groups"
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
    return f"{where}: {str(error).splitlines()[0]}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _stop(line: str, code: int = 1) -> None:
    print(f"vssl: {line}", file=sys.stderr)
    sys.exit(code)
