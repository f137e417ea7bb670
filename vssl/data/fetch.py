"""Files over HTTP: continued after any break, and held against what is known of them.

It stands above requests, which knows proxies, certificates and redirections, and adds what 100 GB need:
to continue after a break, but only if the file there is still the same.
"""

import json
import re
import threading
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

import requests
import urllib3

from vssl.data.addresses import Address
from vssl.errors import OptionError, first_line
from vssl.files import digest, write_atomically
from vssl.secrets import hidden

CHUNK = 1 << 14
"""Bytes that are taken at once; a break costs at most so many."""
FOR_NOW = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which the same request may succeed later."""

LONGEST_WAIT_S = 60.0


class Cancelled(Exception):
    """Another file has failed, or the user asked to stop."""


class Broken(Exception):
    """The transfer ended early; it can go on, and not before so many seconds if the server says so."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Patience:
    """How often to try again without having got a byte further, how long to wait before, doubled each time,
    and how long a server may be silent. In seconds."""

    tries: int = 6
    wait_s: float = 1.0
    silence_s: float = 60.0


@dataclass(frozen=True)
class Version:
    """What tells a file of a server from another one at the same address."""

    bytes: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, response: requests.Response) -> "Version":
        """As the headers of an answer have it, whether it is the whole file or its end."""
        length = response.headers.get("Content-Length")
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            length = response.headers.get("Content-Range", "").rpartition("/")[2]
        size = int(length) if length and length.isdecimal() else None
        return cls(size, response.headers.get("ETag"), response.headers.get("Last-Modified"))

    def is_of(self, other: "Version") -> bool:
        """Whether nothing that both headers say differs; a server leaves some out of the end of a file."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return all(one == two for one, two in pairs if one is not None and two is not None)

    @property
    def condition(self) -> dict[str, str]:
        """Ask for the end of the file only if it is still this one."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        mark = strong or self.modified
        return {"If-Range": mark} if mark else {}


class Watch(Protocol):
    """Who is told of a transfer; from several threads."""

    def came(self, num_bytes: int) -> None:
        """So many bytes came; below 0: so many are dropped."""

    def grew(self, num_bytes: int) -> None:
        """The file is larger by so many bytes than was thought."""

    def broke(self) -> None:
        """The transfer broke off and is tried again."""


class Fetch:
    """One file on its way into `target`. What has come lies beside it, as `.part`, with the version that it
    is of; any process continues that."""

    def __init__(
        self,
        address: Address,
        target: Path,
        patience: Patience,
        watch: Watch,
        stopping: threading.Event,
    ) -> None:
        self.address, self.target, self.patience = address, target, patience
        self.watch, self.stopping = watch, stopping
        self.part = part_of(target)
        self._note = target.with_name(f"{target.name}.part.json")
        self._furthest = self.came
        self._expected = round(address.gb * 1e9)

    @property
    def came(self) -> int:
        """Bytes that lie here."""
        return self.part.stat().st_size if self.part.exists() else 0

    def run(self) -> None:
        """Fetch what is missing. Raises `OptionError` when it is of no use to go on trying."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        in_vain = 0
        while True:
            try:
                with requests.Session() as session:
                    self._go_on(session)
                break
            except (requests.ConnectionError, requests.Timeout, Broken) as error:
                if isinstance(error, requests.exceptions.SSLError):
                    remedy = f"set REQUESTS_CA_BUNDLE to a file of certificates, {self._by_hand}"
                    raise self._failed("its certificate is not accepted", remedy) from error
                self.watch.broke()
                in_vain = 0 if self.came > self._furthest else in_vain + 1
                self._furthest = max(self._furthest, self.came)
                if in_vain >= self.patience.tries:
                    remedy = f"run it again later: it goes on here; or {self._other}"
                    why = str(error) if isinstance(error, Broken) else _short(error)
                    raise self._failed(f"{why}, {self.patience.tries} times in a row", remedy) from error
                self._wait(in_vain, error)
            except requests.RequestException as error:
                raise self._failed(f"cannot be fetched ({_short(error)})", self._other) from error
        check_digest(self.address, self.part)
        self.part.replace(self.target)
        self._note.unlink(missing_ok=True)

    def _go_on(self, session: requests.Session) -> None:
        known, came = self._known(), self.came
        if known and known.bytes is not None and came == known.bytes:
            return
        if not known or (known.bytes is not None and came > known.bytes):
            known, came = None, self._drop()
        asked = {"Range": f"bytes={came}-", **known.condition} if known and came else {}
        with session.get(
            self.address.url,
            headers={"Accept-Encoding": "identity", **asked},
            stream=True,
            timeout=self.patience.silence_s,
        ) as response:
            self._check_status(response)
            version = Version.of(response)
            if response.status_code == HTTPStatus.PARTIAL_CONTENT:
                begins_there = response.headers.get("Content-Range", "").startswith(f"bytes {came}-")
                if not (known and known.is_of(version) and begins_there):
                    self._drop()
                    raise Broken("the server has another file now")
            elif came:
                self._drop()  # it sends the whole file: it knows no ranges, or the file is another one
            self._take(response, version)

    def _take(self, response: requests.Response, version: Version) -> None:
        write_atomically(self._note, json.dumps(asdict(version)))
        if version.bytes is not None:
            self.watch.grew(version.bytes - self._expected)
            self._expected = version.bytes
        try:
            with self.part.open("ab") as file:
                # As it is sent: Apache calls a .tgz compressed, and what unpacks that would unpack the file.
                for chunk in response.raw.stream(CHUNK, decode_content=False):
                    file.write(chunk)
                    self.watch.came(len(chunk))
                    if self.stopping.is_set():
                        raise Cancelled
        except urllib3.exceptions.HTTPError as error:
            raise Broken(f"{self.came:,} bytes came of {_bytes(version)}") from error
        if version.bytes is not None and self.came != version.bytes:
            raise Broken(f"{self.came:,} bytes came of {_bytes(version)}")

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._drop()
            raise Broken("the server has a shorter file now")
        if status in FOR_NOW:
            after = response.headers.get("Retry-After", "")
            raise Broken(f"HTTP {status} {response.reason}", float(after) if after.isdecimal() else 0.0)
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            allowed = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
            remedy = f"see on its page whether it asks for a registration, and {self._by_hand}"
            raise self._failed(f"HTTP {status} {response.reason}", remedy if allowed else self._by_hand)

    def _known(self) -> Version | None:
        try:
            return Version(**json.loads(self._note.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _drop(self) -> int:
        """Forget what has come."""
        self.watch.came(-self.came)
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        return 0

    def _wait(self, in_vain: int, error: Exception) -> None:
        asked = error.wait_s if isinstance(error, Broken) else 0.0
        longest = max(asked, self.patience.wait_s * 2**in_vain)
        if self.stopping.wait(min(longest, LONGEST_WAIT_S)):
            raise Cancelled

    def _failed(self, problem: str, remedy: str) -> OptionError:
        return _failed(self.address, problem, remedy)

    @property
    def _other(self) -> str:
        return f"give another address ({self.address.option}=URL)"

    @property
    def _by_hand(self) -> str:
        return f"{self._other}, or put the file at {self.target} and run again"


def check_digest(address: Address, path: Path) -> None:
    """Raise `OptionError` if a file is not the one that was published; nothing without a published digest."""
    if address.digest is None:
        return
    kind, _, published = address.digest.partition(":")
    if (found := digest(path, kind)) != published:
        accept = f"take it as it is with {address.node}.digest=null"
        remedy = f"delete {path} to fetch it again, or {accept}"
        raise _failed(address, f"another file than the published one ({kind} {found})", remedy)


def _failed(address: Address, problem: str, remedy: str) -> OptionError:
    return OptionError(address.option, hidden(address.url), problem, remedy)


def part_of(target: Path) -> Path:
    """Where a file lies that is not here yet."""
    return target.with_name(f"{target.name}.part")


def _bytes(version: Version) -> str:
    return "an unknown number" if version.bytes is None else f"{version.bytes:,}"


def _short(error: Exception) -> str:
    """The innermost reason that a library gives, without the objects that it names."""
    reason: Any = error
    while inner := _inner(reason):
        reason = inner
    return hidden(re.sub(r"^(<.*?>|\w+\(host=.*?\)): ", "", first_line(reason)))[:200]


def _inner(error: Any) -> BaseException | None:
    """The exception that another one was made of, by requests and urllib3."""
    inside = (getattr(error, "reason", None), *reversed(error.args))
    return next((one for one in inside if isinstance(one, BaseException)), None)
