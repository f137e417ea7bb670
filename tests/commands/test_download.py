"""mode=download: from a server on this machine to a data set that a check takes."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from archives import tarred, zipped
from conftest import ROOT, composed, environment
from fake_videos import write
from http_server import always, answers, breaks_off, serving
from vssl.commands import download, execute
from vssl.data import layouts
from vssl.data.fetch import Patience
from vssl.errors import VsslError

CLASSES = ["ApplyEyeMakeup", "Archery"]


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", Patience(tries=3, wait_s=0.001, silence_s=5.0))
    with serving() as (site, url):
        site.url = url
        yield site


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    write(path, 20)
    return path.read_bytes()


def ucf101(site, video):
    """As the archives of UCF101, but with a zip in place of the rar."""
    names = [f"{name}/v_{name}_g0{group}_c01.avi" for name in CLASSES for group in (1, 8)]
    site.files["/UCF101.zip"] = zipped({f"UCF-101/{name}": video + os.urandom(300_000) for name in names})
    lists = {"classInd.txt": "1 ApplyEyeMakeup\n2 Archery\n"}
    lists["trainlist01.txt"] = "".join(
        f"{name} {1 + n // 2}\n" for n, name in enumerate(names) if "g08" in name
    )
    lists["testlist01.txt"] = "".join(f"{name}\n" for name in names if "g01" in name)
    site.files["/lists.zip"] = zipped({f"ucfTrainTestlist/{name}": text for name, text in lists.items()})
    digest = hashlib.sha256(site.files["/lists.zip"]).hexdigest()
    at = "source.download.files.lists"
    return [
        *("mode=download", "source=ucf101", f"download.url={site.url}/UCF101.zip"),
        *(
            f"{at}.url={site.url}/lists.zip",
            f"{at}.digest='sha256:{digest}'",
            "source.download.files.videos.gb=0.001",
        ),
    ]


def run(*words):
    execute([(composed(*words), [])])


def test_a_data_set_is_fetched_through_three_breaks_and_unpacked(site, video, tmp_path, capsys):
    words = ucf101(site, video)
    out = tmp_path / "UCF 101"
    site.misbehave("/UCF101.zip", breaks_off(400_000), breaks_off(300_000), breaks_off(200_000))
    run(*words, f"download.out='{out}'", f"outputs={tmp_path}")
    said = capsys.readouterr().out
    listing = layouts.read("ucf101", out, None, None)
    assert len(listing.entries) == 4
    assert all(entry.exists for entry in listing.entries)
    assert not list(out.rglob("*.zip"))
    assert not list(out.rglob("*.part*"))
    lines = said.splitlines()
    assert lines[0] == f"ucf101: about 0.0011 GB into {out}"
    assert lines[1].startswith("licence: none stated")
    assert "not tried by the authors of vssl" in lines[2]
    assert "breaks 3" in said
    assert lines[-1] == (
        f"check it: python launch.py mode=check source=ucf101 downstream=ucf101 'roots.ucf101={out}'"
    )
    digests = {
        f"/{name}": hashlib.sha256(site.files[f"/{name}"]).hexdigest() for name in ("UCF101.zip", "lists.zip")
    }
    assert (out / "sha256sums.txt").read_text() == "".join(
        f"{one}  {name[1:]}\n" for name, one in digests.items()
    )
    before = dict(site.asked)
    run(*words, f"download.out='{out}'", f"outputs={tmp_path}")
    assert site.asked == before


def test_what_was_not_unpacked_to_its_end_is_unpacked_again(site, video, tmp_path, monkeypatch):
    words = [*ucf101(site, video), f"download.out={tmp_path}/out", "download.parallel=1"]

    def stops(archive, folder, is_wanted):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "unpack", stops)
        with pytest.raises(KeyboardInterrupt):
            run(*words)
    assert site.asked["/UCF101.zip"] == 1
    run(*words)
    assert site.asked["/UCF101.zip"] == 1
    assert len(list((tmp_path / "out").rglob("*.avi"))) == 4


def test_archives_are_kept_if_asked(site, video, tmp_path):
    run(*ucf101(site, video), f"download.out={tmp_path}/out", "download.keep=true")
    kept = sorted(path.name for path in (tmp_path / "out" / ".download").glob("*.zip"))
    assert kept == ["UCF101.zip", "lists.zip"]


def test_a_file_that_was_put_there_by_hand_is_taken(site, video, tmp_path):
    words = ucf101(site, video)
    site.misbehave("/UCF101.zip", always(answers(403)))
    with pytest.raises(
        VsslError, match=r"^download.url=http.*: HTTP 403 .* or put the file at (.*) and run"
    ) as error:
        run(*words, f"download.out={tmp_path}/out")
    place = str(error.value).partition("put the file at ")[2].partition(" and run")[0]
    Path(place).write_bytes(site.files["/UCF101.zip"])
    run(*words, f"download.out={tmp_path}/out")
    assert len(list((tmp_path / "out").rglob("*.avi"))) == 4


def test_of_that_too_the_published_digest_is_asked_for(site, video, tmp_path):
    words = ucf101(site, video)
    (tmp_path / "out" / ".download").mkdir(parents=True)
    (tmp_path / "out" / ".download" / "lists.zip").write_bytes(zipped({"other": "x"}))
    with pytest.raises(VsslError, match=r"^source.download.files.lists.url=.*another file than the"):
        run(*words, f"download.out={tmp_path}/out")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "no archive but a page of the server"),
        (b"PK and nothing else", "not a whole archive"),
    ],
)
def test_what_is_no_archive_stops_all_with_one_line(site, video, tmp_path, content, said):
    words = ucf101(site, video)
    site.files["/UCF101.zip"] = content
    with pytest.raises(VsslError, match=said) as error:
        run(*words, f"download.out={tmp_path}/out")
    assert "\n" not in str(error.value)


def test_another_file_than_the_published_one_is_refused(site, video, tmp_path):
    words = ucf101(site, video)
    site.files["/lists.zip"] = zipped({"other": "x"})
    with pytest.raises(
        VsslError, match=r"^source.download.files.lists.url=.*another file than the published one"
    ):
        run(*words, f"download.out={tmp_path}/out")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["source=synthetic"], "mode=download: no addresses are known of synthetic; choose source=ucf101"),
        (["source=ssv2"], "mode=download: no addresses are known of ssv2; choose"),
        (["source=ucf101"], "download.out=null: no folder; give the folder to write to"),
        (["source=ucf101", "download.url=x"], "download.url=x: no address of a file; give http"),
        (["source=ucf101", "download.parallel=0"], "download.parallel=0: too small"),
        (
            ["source=ucf101", "source.download.files.videos.gb=1e9", "download.out=TMP"],
            "download.out=TMP: .* GB are free",
        ),
        (
            ["source=hmdb51", "download.out=TMP", "PATH"],
            "hmdb51_org.rar: needs a program for rar, one of unar, unrar",
        ),
    ],
)
def test_what_cannot_begin_is_refused_before_anything_is_fetched(words, said, tmp_path, monkeypatch):
    monkeypatch.setattr(download.Downloads, "_one", None)
    if "PATH" in words:
        monkeypatch.setenv("PATH", "/nowhere")
    else:
        monkeypatch.setattr(download, "rar_tool", lambda names: None)
    words = [word.replace("TMP", str(tmp_path)) for word in words if word != "PATH"]
    with pytest.raises(VsslError, match=f"^{said.replace('TMP', str(tmp_path))}"):
        run("mode=download", *words)


def kinetics(site, video):
    """Two archives of training videos and one of validation videos, of three classes, with their lists."""
    ids = {name: [f"{name[:4]}{n:07}" for n in range(3)] for name in ("applauding", "yawning", "abseiling")}
    clips = [(name, one) for name, several in ids.items() for one in several]

    def archive(chosen):
        return tarred({f"./{one}_000001_000011.mp4": video + one.encode() for _, one in chosen})

    def table(chosen):
        rows = [f"{name},{one},1,11,x" for name, one in chosen]
        return "\n".join(["label,youtube_id,time_start,time_end,split", *rows, ""]).encode()

    train, val = (
        [clip for clip in clips if clip[1][-1] != "2"],
        [clip for clip in clips if clip[1][-1] == "2"],
    )
    site.files |= {
        "/train/part_0.tar.gz": archive(train[:3]),
        "/train/part_1.tar.gz": archive(train[3:]),
        "/val/part_0.tar.gz": archive(val),
        "/train.txt": f"{site.url}/train/part_0.tar.gz\n{site.url}/train/part_1.tar.gz\n".encode(),
        "/val.txt": f"{site.url}/val/part_0.tar.gz\n".encode(),
        "/train.csv": table(train),
        "/val.csv": table(val),
    }
    names = {
        "videos": "train.txt",
        "validation": "val.txt",
        "training_list": "train.csv",
        "validation_list": "val.csv",
    }
    at = "source.download.files"
    return [f"{at}.{one}.url={site.url}/{name}" for one, name in names.items()] + [
        f"{at}.{one}.gb=0.001" for one in names
    ]


@pytest.mark.parametrize(("source", "videos"), [("kinetics400", 9), ("kinetics100", 6)])
def test_lists_of_addresses_and_a_part_of_the_classes(site, video, tmp_path, capsys, source, videos):
    out = tmp_path / "out"
    site.misbehave("/train/part_1.tar.gz", breaks_off(3000))
    run("mode=download", f"source={source}", *kinetics(site, video), f"download.out={out}")
    assert len(list(out.rglob("*.mp4"))) == videos
    listing = layouts.read("kinetics", out, None, ["applauding", "yawning"])
    assert len(listing.entries) == 6
    assert all(entry.exists for entry in listing.entries)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"roots.{source}={out}")
    sums = (out / "sha256sums.txt").read_text()
    assert [line.split("  ")[1] for line in sums.splitlines()] == [
        *("annotations/train.csv", "annotations/val.csv"),
        *(
            "train/part_0.tar.gz",
            "train/part_1.tar.gz",
            "train/train.txt",
            "val/part_0.tar.gz",
            "val/val.txt",
        ),
    ]


@pytest.mark.parametrize(("source", "fits"), [("kinetics400", False), ("kinetics100", True)])
def test_room_is_asked_for_what_is_kept(site, video, tmp_path, monkeypatch, source, fits):
    """Of Kinetics-100 that is a fifth of what is fetched, and only its archives are known before."""
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Disk", (), {"free": 500e9}))
    words = [*kinetics(site, video), "source.download.files.videos.gb=370.3", f"download.out={tmp_path}/out"]
    if fits:
        run("mode=download", f"source={source}", *words)
        return
    with pytest.raises(VsslError, match=r"out: 500 GB are free, 741 GB are needed; free some space"):
        run("mode=download", f"source={source}", *words)
    assert "/train/part_0.tar.gz" not in site.asked


def test_ctrl_c_while_files_are_handed_out_ends_those_that_are_fetched(site, video, tmp_path, monkeypatch):
    began, stopped = threading.Event(), []

    class Interrupted(download.ThreadPoolExecutor):
        def submit(self, *task):
            super().submit(*task)
            began.wait(60)
            os.kill(os.getpid(), signal.SIGINT)

    def fetch(downloads, address):
        began.set()
        stopped.append(downloads._stopping.wait(10))

    monkeypatch.setattr(download, "ThreadPoolExecutor", Interrupted)
    monkeypatch.setattr(download.Downloads, "_one", fetch)
    with pytest.raises(KeyboardInterrupt):
        run(*ucf101(site, video), f"download.out={tmp_path}/out", f"outputs={tmp_path}")
    assert stopped == [True]


def test_a_killed_process_is_continued_by_the_same_command(site, video, tmp_path):
    """And not while it runs: the folder is its own."""
    words = [
        *ucf101(site, video),
        f"download.out={tmp_path}/out",
        f"outputs={tmp_path}",
        "download.parallel=1",
    ]
    content, half = site.files["/UCF101.zip"], 600_000

    def stalls(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.send_header("ETag", '"one"')
        request.end_headers()
        request.wfile.write(content[:half])
        request.wfile.flush()
        time.sleep(60)
        return True

    site.misbehave("/UCF101.zip", stalls)
    command = [sys.executable, str(ROOT / "launch.py"), *words]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
    part = tmp_path / "out" / ".download" / "UCF101.zip.part"
    deadline = time.monotonic() + 100
    while not (part.exists() and part.stat().st_size > half - 20_000):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(VsslError, match="another process is downloading there; wait for it"):
        run(*words)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    came = part.stat().st_size
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100, check=True
    )
    assert ("/UCF101.zip", f"bytes={came}-") in site.ranges
    assert len(list((tmp_path / "out").rglob("*.avi"))) == 4
    assert "Traceback" not in done.stderr
