"""mode=preview as users meet it."""

from pathlib import Path

from PIL import Image


def test_a_sheet_for_every_stage_that_trains_and_nothing_else(launch, tmp_path):
    done = launch("mode=preview")
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name.rsplit("-", 1)[0] for path in paths] == [
        "auxiliary-AuxSKD",
        "pretext-VSPP",
        "finetune-Classification",
    ]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(paths)
    sizes = []
    for path in paths:
        with Image.open(path) as sheet:
            sheet.verify()
            sizes.append(sheet.size)
    assert paths[0].parent == tmp_path / "preview"
    assert {width for width, _ in sizes} == {sizes[0][0]}
    assert sizes[0][1] > 1.5 * sizes[1][1]  # two clips of each video, not one


def test_a_mistake_is_one_line_and_writes_nothing(launch, tmp_path):
    done = launch("mode=preview", "pretext.sampler.variant=relased")
    assert done.returncode == 1
    assert "relased: no such value; did you mean 'released'?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []
