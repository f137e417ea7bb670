"""Draws docs/pictures: what each task trains on, and a report in a browser.

python docs/pictures.py                   # sheets of all pretext tasks and of auxSKD, on synthetic videos
python docs/pictures.py REPORT CHROMIUM   # the report of that folder, by that browser
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from hydra import compose, initialize_config_dir
from PIL import Image

from vssl.pipeline import plan
from vssl.report.sheet import draw_preview
from vssl.stage.construct import Stage
from vssl.stage.preview import preview

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs/pictures"

SAMPLES = {"vspp": 3, "videopace": 2, "speednet": 2, "rotation": 2, "ctp": 2}
"""Videos on a sheet; one where nothing is said."""

WIDTH = 1480


def main() -> None:
    """Draw what the command line asks for."""
    if len(sys.argv) == 3:
        report(Path(sys.argv[1]), sys.argv[2])
        return
    for file in sorted((ROOT / "conf/pretext").glob("*.yaml")):
        if file.stem != "none":
            save(sheet("pretext", f"pretext={file.stem}", samples=SAMPLES.get(file.stem, 1)), file.stem)
    save(sheet("auxiliary", samples=1), "auxskd")


def sheet(stage: str, *choices: str, samples: int) -> Image.Image:
    """The sheet of a stage of `python launch.py *choices`."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        chain = plan(compose("config", list(choices)))
    spec = next(one for one in chain if one.name == stage)
    return Image.open(io.BytesIO(draw_preview(preview(Stage(spec), samples))))


def report(folder: Path, browser: str) -> None:
    """The upper part of a report's page."""
    with tempfile.TemporaryDirectory() as place:
        shot = Path(place) / "report.png"
        page = (folder / "index.html").resolve().as_uri()
        size = f"--window-size={WIDTH},1100"
        subprocess.run(
            [browser, "--no-sandbox", "--hide-scrollbars", size, f"--screenshot={shot}", page], check=True
        )
        save(Image.open(shot), "report")


def save(picture: Image.Image, name: str) -> None:
    """Write a picture as a page loads it fast."""
    PICTURES.mkdir(exist_ok=True)
    picture.convert("RGB").save(PICTURES / f"{name}.webp", quality=70, method=6)
    print(PICTURES / f"{name}.webp")


if __name__ == "__main__":
    main()
