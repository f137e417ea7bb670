"""vssl: experiments in self-supervised video representation learning."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

    from vssl.types import Backbone

__version__ = "0.1.0"


def load_backbone(where: str | Path, outputs: str | Path = "outputs") -> "Backbone":
    """A trained backbone as a torch module, in evaluation mode, on the CPU.

    where: the beginning of the key of any stage in `outputs` (one that trains nothing gives the backbone
    it used), or the folder of a stage, or one that mode=export has written.
    It takes clips [B, 3, T, H, W], RGB in the range that it was trained on (`augmentation` in the stage's
    recipe.yaml, `input` in an exported config.json), and gives features [B, feature_dim].
    Raises `vssl.errors.VsslError` if there is no such stage, or none with weights.
    """
    from vssl.stage.saved import load_saved  # imports torch, which a plan does without

    return load_saved(where, Path(outputs))


def results(outputs: str | Path = "outputs", videos: bool = False) -> "DataFrame":
    """Every finished test in `outputs`, a line each, as a table of pandas.

    Columns: `test` (its key), `label` (as in mode=report), `data`, `seed`; the metrics, as shares of 1; what
    all stages behind it took (`gpu_hours` and so on); `protocol.NAME`, what its test noted; `STAGE.PATH`, the
    recipe of each stage. Where one has no such value there is NaN.
    videos: a line for each test video of each test instead: `video` (its place in the test set), its
    `class`, the `predicted` one (with retrieval, that of the nearest neighbour), and the metrics of which
    the mean over videos is the test's.
    Raises `vssl.errors.VsslError` if no test is finished there.
    """
    from vssl.report.results import results as read  # imports pandas, which nothing else does

    return read(Path(outputs), videos)
