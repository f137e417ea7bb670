"""MLflow as a mirror of the stage folders. The only file that imports mlflow, and only once it is used."""

from __future__ import annotations

import fcntl
import functools
import json
import logging
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlparse

from vssl.errors import OptionError, VsslError, first_line
from vssl.files import is_locked, write_atomically
from vssl.secrets import hidden, keep, reveal
from vssl.tracking.metrics import RESERVED, Launch, StageFolder, Status, Tracker, read

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

_log = logging.getLogger(__name__)

_SQLITE = "sqlite:///"
_MAX_TEXT = 6000  # characters of a parameter or tag that MLflow stores
_MAX_NAME = 250
_RETRY_AFTER_S = 60.0
_LAUNCH = "this launch"

# Taken unless the user set them. Few retries and a short time limit: a server that is down must not hold up
# training. No pool: an open sqlite connection must not be carried into a forked process.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
}


class MLflowTracker(Tracker):
    """One MLflow run for each launch, and one nested in it for each stage that the launch ran.

    `uri` is a database (`sqlite:///file`) or a server (`http://host:port`). With sqlite, artifacts lie in
    `mlartifacts` beside the file. What goes wrong is told once per launch and not raised. Jobs elsewhere
    begin the same launch and mirror under it; at any time one process only may mirror a given stage.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        if not re.match(r"\w[\w+.-]*://", uri):
            remedy = "give sqlite:///FILE or http://HOST:PORT"
            raise OptionError("uri", hidden(uri), "neither a database nor a server", remedy)
        database = _database(uri)
        self.uri = f"{_SQLITE}{database.absolute()}" if database else keep(uri)
        self.experiment = experiment
        self._launch: Launch | None = None
        self._launch_run_id: str | None = None
        self._linked: set[str] = set()
        self._missing: dict[str, None] = {}
        self._own: IO[str] | None = None
        self._warned = False
        self._quiet_until = 0.0

    def begin(self, launch: Launch) -> None:
        """Create database, experiment and the run of this launch where they are missing."""
        self._launch = launch
        with self._tolerating(_LAUNCH):
            self._parent(*_connect(self.uri, self.experiment))

    def claim(self, folder: Path) -> None:
        """Hold a lock on a file with the launch's id, which the end of this process frees, whatever it is."""
        assert self._launch is not None
        with self._tolerating(_LAUNCH):
            folder.mkdir(parents=True, exist_ok=True)
            self._own = open(folder / self._launch.id, "w")  # noqa: SIM115  it is held until the end
            fcntl.lockf(self._own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._close_left(folder)

    def close_left(self, folder: Path) -> None:
        with self._raising():
            self._close_left(folder)

    def missing(self) -> list[str]:
        return list(self._missing)

    def mirror(self, stage: StageFolder, status: Status) -> None:
        """Bring the stage's run up to date with its folder.

        For a minute after a failure a running stage is left alone: waiting for a dead server costs seconds.
        """
        if status != "running" or time.time() >= self._quiet_until:
            with self._tolerating(str(stage)):
                self._mirror(stage, status)

    def reuse(self, stage: StageFolder) -> None:
        """Link a finished stage to this launch; it is mirrored now if that never succeeded before.

        It is left alone, too, for a minute after a failure: a sweep may reuse hundreds.
        """
        self._missing[str(stage)] = None
        if time.time() >= self._quiet_until:
            with self._tolerating(str(stage)):
                self._mirror(stage, "finished")

    def sync(self, stage: StageFolder, status: Status) -> None:
        """Mirror a stage that does not run now; raise `VsslError` if that cannot be."""
        with self._raising():
            self._mirror(stage, status)

    def end(self, ok: bool) -> None:
        status = "FINISHED" if ok else "FAILED"
        with self._tolerating(_LAUNCH):
            if self._own:
                print(status, file=self._own, flush=True)  # for a later launch, if this one cannot say it
            client, experiment_id = _connect(self.uri, self.experiment)
            if (run_id := self._parent(client, experiment_id)) is not None:
                client.set_terminated(run_id, status)
            if self._own:
                Path(self._own.name).unlink()
                self._own.close()

    def where(self) -> str:
        """Return the command that shows the database, or the server's address."""
        if _database(self.uri) is None:
            return self.uri
        return f"mlflow ui --backend-store-uri {shlex.quote(_address(self.uri))}"

    def _mirror(self, stage: StageFolder, status: Status) -> None:
        """What was sent as finished is linked and not sent again."""
        client, experiment_id = _connect(self.uri, self.experiment)
        record = _known(client, stage) or self._create(client, experiment_id, stage)
        is_new_here = self._link(client, experiment_id, stage, record.run_id)
        if record.status == status == "finished":
            return
        if record.status == "new":
            _mirror_params(client, stage, record)
        record = _mirror_metrics(client, stage, record)
        if status not in ("running", "killed"):
            _mirror_result(client, stage, record)
            _mirror_files(client, stage, record)
        if (
            status != record.status or is_new_here
        ):  # another launch may have closed what a killed one had left
            _set_status(client, stage, record, status)

    def _create(self, client: MlflowClient, experiment_id: str, stage: StageFolder) -> _Record:
        tags = {**stage.tags, "stage": stage.name, "key": stage.key}
        if (parent := self._parent(client, experiment_id)) is not None:
            tags["mlflow.parentRunId"] = parent
        run = client.create_run(
            experiment_id,
            start_time=_milliseconds(stage.folder / "recipe.yaml"),
            tags={_legal(name): str(value)[:_MAX_TEXT] for name, value in tags.items()},
            run_name=f"{stage.name} {stage.key}",
        )
        return _save(stage, _Record(self.uri, experiment_id, run.info.run_id))

    def _parent(self, client: MlflowClient, experiment_id: str) -> str | None:
        """The run of this launch; None before `begin`. Made now if `begin` could not."""
        if self._launch_run_id is None and self._launch is not None:
            with _alone(self.uri):
                self._launch_run_id = _launch_run(client, experiment_id, self._launch)
        return self._launch_run_id

    def _link(self, client: MlflowClient, experiment_id: str, stage: StageFolder, run_id: str) -> bool:
        """Note the stage's run in the launch's; whether that was not done yet."""
        if stage.key in self._linked:
            return False
        if (parent := self._parent(client, experiment_id)) is not None:
            client.set_tag(parent, _legal(f"stage.{stage.name}.{stage.key}"), run_id)
        self._linked.add(stage.key)
        return True

    def _close_left(self, folder: Path) -> None:
        """Close the runs of launches that hold no lock any more, and of the stages that they were running."""
        own = self._launch.id if self._launch else ""
        for left in sorted(folder.glob("*")):
            if left.name == own or is_locked(left):
                continue
            client, experiment_id = _connect(self.uri, self.experiment)
            status = left.read_text().strip() or "KILLED"
            for launch in _running(client, experiment_id, f"tags.launch = '{left.name}'"):
                client.set_terminated(launch.info.run_id, status)
                for run in _running(
                    client, experiment_id, f"tags.mlflow.parentRunId = '{launch.info.run_id}'"
                ):
                    tags = run.data.tags
                    if not is_locked(folder.parent / "stages" / tags["stage"] / tags["key"] / "claim"):
                        client.set_terminated(run.info.run_id, "KILLED")
            left.unlink(missing_ok=True)

    @contextmanager
    def _tolerating(self, name: str) -> Iterator[None]:
        """Raise nothing that goes wrong in the block, whatever it is: MLflow has many drivers and servers.
        `name` is missing until the block succeeds."""
        self._missing[name] = None
        try:
            yield
            del self._missing[name]
        except Exception as error:
            if not self._warned:
                said = hidden(first_line(error))
                _log.warning("tracking: %s; training goes on, metrics.jsonl is complete", said)
            self._warned = True
            self._quiet_until = time.time() + _RETRY_AFTER_S

    @contextmanager
    def _raising(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            said = hidden(first_line(error))
            raise VsslError(
                f"tracking: {said}; mend this and sync again, the stage folders are complete"
            ) from error


@dataclass(frozen=True)
class _Record:
    """What `tracking.json` remembers of a stage: its run, and how far that run has been told.

    `lines`, `step` and `time` are the number of the last line of metrics.jsonl that was mirrored, and what
    stood in it.
    """

    uri: str
    experiment_id: str
    run_id: str
    status: str = "new"
    lines: int = 0
    step: float = 0
    time: float = 0


@functools.cache
def _connect(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """Return a client and the id of the experiment, both created if need be by one process at a time.

    MLflow itself fails if two processes create a database at once.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it reports each retry
    from mlflow import MlflowClient

    database = _database(uri)
    if database is None and not uri.startswith("http"):
        _try_database(reveal(uri))
    with _alone(uri), _whole(database), _no_trace(database):
        client = MlflowClient(tracking_uri=_address(uri))
        return client, _experiment_id(client, experiment, database and database.parent / "mlartifacts")


def _try_database(uri: str) -> None:
    """Raise at once for a database whose server or driver is not there; MLflow would try for 100 s."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    create_engine(uri, poolclass=NullPool).connect().close()


def _address(uri: str) -> str:
    """As MLflow takes it: with its password, and with characters quoted that mean something in a URL."""
    database = _database(uri)
    if database is None or not set("%?#") & set(str(database)):
        return reveal(uri)
    return f"{_SQLITE}{quote(str(database))}"


@contextmanager
def _no_trace(database: Path | None) -> Iterator[None]:
    """Remove the folder that MLflow makes for a quoted path, as if it were none."""
    yield
    if database and _address(f"{_SQLITE}{database}") != f"{_SQLITE}{database}":
        with suppress(OSError):
            Path(quote(str(database))).parent.rmdir()


@contextmanager
def _whole(database: Path | None) -> Iterator[None]:
    """Make a new database in the block as a whole: what a kill or a full disk left of one goes first, as
    MLflow could never complete it. What sqlite cannot read raises at once; MLflow would try for 100 s."""
    if database is None:
        yield
        return
    half = database.with_name(f"{database.name}.half")
    if half.exists():
        for ending in ("", "-journal", "-wal", "-shm"):
            database.with_name(database.name + ending).unlink(missing_ok=True)
    if not database.exists():
        half.touch()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA schema_version")
    yield
    half.unlink(missing_ok=True)


def _experiment_id(client: MlflowClient, name: str, artifacts: Path | None) -> str:
    """Raises `VsslError` if the database would send artifacts to where it was created, now another place."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=artifacts and artifacts.as_uri()))
    if artifacts is not None:
        artifacts.mkdir(exist_ok=True)
        recorded = Path(unquote(urlparse(found.artifact_location).path))
        if not (recorded.exists() and recorded.samefile(artifacts)):
            raise VsslError(
                f"{artifacts.parent} was moved, but its MLflow database keeps artifacts in {recorded}; "
                "delete the database: it is written anew from the stage folders"
            )
    return str(found.experiment_id)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Hold the lock file beside a sqlite database; a server looks after itself."""
    database = _database(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def _running(client: MlflowClient, experiment_id: str, which: str) -> Sequence[Any]:
    """The runs among those that count as running."""
    found: Sequence[Any] = client.search_runs([experiment_id], f"{which} and attributes.status = 'RUNNING'")
    return found


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def _launch_run(client: MlflowClient, experiment_id: str, launch: Launch) -> str:
    found = client.search_runs([experiment_id], f"tags.launch = '{launch.id}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    tags = {"launch": launch.id, "command": hidden(launch.command)[:_MAX_TEXT]}
    return str(client.create_run(experiment_id, tags=tags, run_name=launch.name).info.run_id)


def _known(client: MlflowClient, stage: StageFolder) -> _Record | None:
    """What was recorded of the stage, unless its run is not in this database (any more)."""
    from mlflow.exceptions import MlflowException

    path = stage.folder / "tracking.json"
    if not path.exists():
        return None
    record = _Record(**json.loads(path.read_text()))
    try:
        run = client.get_run(record.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return record if run.info.lifecycle_stage == "active" else None


def _save(stage: StageFolder, record: _Record) -> _Record:
    write_atomically(stage.folder / "tracking.json", json.dumps(asdict(record), indent=1))
    return record


def _mirror_params(client: MlflowClient, stage: StageFolder, record: _Record) -> None:
    """Log the recipe as parameters; only once, as MLflow refuses another value later."""
    from mlflow.entities import Param

    params = [Param(_legal(name), str(value)[:_MAX_TEXT]) for name, value in stage.params.items()]
    client.log_batch(record.run_id, params=params)


def _mirror_metrics(client: MlflowClient, stage: StageFolder, record: _Record) -> _Record:
    lines = read(stage.folder)
    new = _not_mirrored(lines, record)
    if not new:
        return record
    metrics = [
        _metric(name, value, int(line["time"] * 1000), int(line["step"]))
        for line in new
        for name, value in line.items()
        if name not in RESERVED
    ]
    client.log_batch(record.run_id, metrics=metrics)
    return _save(stage, replace(record, lines=len(lines), step=new[-1]["step"], time=new[-1]["time"]))


def _not_mirrored(lines: Sequence[dict[str, float]], record: _Record) -> Sequence[dict[str, float]]:
    """The lines after the last one mirrored. A resumed stage writes some steps again, under another time:
    MLflow cannot forget their first values, so only later steps follow."""
    before = lines[: record.lines]
    appended_only = len(before) == record.lines and (not before or before[-1]["time"] == record.time)
    return lines[record.lines :] if appended_only else [line for line in lines if line["step"] > record.step]


def _mirror_result(client: MlflowClient, stage: StageFolder, record: _Record) -> None:
    """Log the metrics of the stage's result at its last step, but for those that it has logged on its way."""
    logged = {name for line in read(stage.folder) for name in line}
    if left := {name: value for name, value in stage.metrics.items() if name not in logged}:
        written = _milliseconds(stage.folder / "result.json")
        metrics = [_metric(name, value, written, int(record.step)) for name, value in left.items()]
        client.log_batch(record.run_id, metrics=metrics)


def _mirror_files(client: MlflowClient, stage: StageFolder, record: _Record) -> None:
    named = [stage.folder / name for name in ("recipe.yaml", "log.txt", "result.json")]
    for path in [*named, *sorted(stage.folder.glob("*.png"))]:
        if path.exists():
            client.log_artifact(record.run_id, str(path))


def _set_status(client: MlflowClient, stage: StageFolder, record: _Record, status: Status) -> None:
    if status == "running":
        client.update_run(record.run_id, status="RUNNING")
    else:
        result = stage.folder / "result.json"
        ended = _milliseconds(result) if result.exists() else None
        client.set_terminated(record.run_id, status.upper(), ended)
    _save(stage, replace(record, status=status))


def _metric(name: str, value: float, time_ms: int, step: int) -> Metric:
    from mlflow.entities import Metric

    return Metric(_legal(name), value, time_ms, step)


def _legal(name: str) -> str:
    """A name that MLflow accepts: other characters become underscores."""
    return re.sub(r"[^\w.\- :/]", "_", name)[:_MAX_NAME]


def _milliseconds(path: Path) -> int:
    """When the file was written, in ms since 1970."""
    return int(path.stat().st_mtime * 1000)
