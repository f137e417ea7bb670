"""Where the files of a data set are published: `download` in the yaml of its source."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from vssl.checks import check_above_0, check_text, check_type
from vssl.errors import OptionError, nearest

FACTS = ("licence", "stated", "files")
FILE = ("url", "gb", "digest", "into", "parts")


@dataclass(frozen=True)
class Address:
    """One file of a data set; with `parts`, a list of addresses of such files, one a line.

    node: where it stands in the config. option: what to say for another address. gb: size in 1e9 bytes,
    about, of all parts. digest: as `sha256:HEX` or `md5:HEX`, where one is published. into: folder for it, or
    for what is in it.
    """

    node: str
    option: str
    url: str
    gb: float
    digest: str | None
    into: str
    parts: bool

    @property
    def name(self) -> str:
        """What the file is called."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]

    @property
    def key(self) -> str:
        """Its path below the folder of the data set."""
        return "/".join(filter(None, [self.into, self.name]))

    def of_parts(self, lines: list[str]) -> Iterator["Address"]:
        """The addresses in the list that this is the address of. Raises `OptionError` if there are none."""
        urls = [line.strip() for line in lines if line.strip()]
        wrong = next((url for url in urls or [""] if not is_address(url)), None)
        if wrong is not None:
            problem = f"is no list of addresses (it has {wrong[:40]!r})"
            raise OptionError(self.option, self.url, problem, "give the address of the list")
        for url in urls:
            yield replace(self, url=url, gb=self.gb / len(urls), digest=None, parts=False)


def is_address(url: object) -> bool:
    """Whether this is the address of a file that HTTP can fetch."""
    return isinstance(url, str) and bool(re.fullmatch(r"https?://[^/\s]+/\S*[^/\s]", url))


def check_addresses(download: Any) -> None:
    """Raise `OptionError` for a value of the node `download` of a source that means nothing."""
    if download is None:
        return
    if not isinstance(download, Mapping) or not isinstance(download.get("files"), Mapping):
        remedy = "set one of its own options (download.NAME=...), or say null"
        raise OptionError("download", download, "not a group of options", remedy)
    _check_names("download", download, FACTS)
    for name in ("licence", "stated"):
        check_text(f"download.{name}", download[name])
    for name, file in download["files"].items():
        where = f"download.files.{name}"
        if not isinstance(file, Mapping):
            raise OptionError(where, file, "not a group of options", f"set one of them ({where}.url=...)")
        _check_names(where, file, FILE)
        check_url(f"{where}.url", file["url"])
        check_type(f"{where}.gb", file["gb"], float)
        check_above_0(f"{where}.gb", file["gb"])
        _check_rest(where, **{name: file[name] for name in ("digest", "into", "parts")})


def _check_rest(where: str, digest: object, into: object, parts: object) -> None:
    known = r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}"
    if digest is not None and not re.fullmatch(known, str(digest)):
        raise OptionError(f"{where}.digest", digest, "no digest", "give sha256:HEX or md5:HEX, or null")
    if not isinstance(into, str) or into.startswith("/") or ".." in into.split("/"):
        raise OptionError(f"{where}.into", into, "no folder below another one", "give a name")
    if not isinstance(parts, bool):
        raise OptionError(f"{where}.parts", parts, "neither true nor false", "say true or false")


def check_url(option: str, url: object) -> None:
    """Raise `OptionError` if the value of an option is no address of a file."""
    if not is_address(url):
        raise OptionError(option, url, "no address of a file", "give http://HOST/FILE or https://HOST/FILE")


def read_addresses(download: Mapping[str, Any], url: str | None) -> list[Address]:
    """The addresses of a source. `url` takes the place of the first one, which is that of the videos."""
    nodes = {f"source.download.files.{name}": file for name, file in download["files"].items()}
    found = [Address(node, f"{node}.url", **file) for node, file in nodes.items()]
    return [replace(found[0], url=url or found[0].url, option="download.url"), *found[1:]]


def _check_names(where: str, node: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in node:
        if name not in names:
            raise OptionError(f"{where}.{name}", node[name], "no such option", nearest(str(name), names))
    if missing := [name for name in names if name not in node]:
        raise OptionError(f"{where}.{missing[0]}", None, "not there", f"say {where}.{missing[0]}=...")
