"""What a stage trains on, for the eye."""

import numpy as np

from vssl.stage.callback import Preview
from vssl.stage.construct import Stage
from vssl.stage.spec import class_name


def preview(stage: Stage, samples: int) -> Preview:
    """Some of the samples that training sees in epoch 0, from all over the data.

    Only the samples' own generators draw at random, so that training is what it is without this.
    """
    dataset, recipe = stage.dataset, stage.recipe
    dataset.source.prepare()
    chosen = np.unique(np.linspace(0, len(dataset) - 1, samples).astype(int)).tolist()
    words = f"{class_name(recipe.task)} on {recipe.data_name}"
    title = f"{stage.spec}: {words}, seed {recipe.seed}, epoch 0"
    drawn = [dataset.sample((0, index)) for index in chosen]
    return Preview(title, stage.spec.clip_names, drawn, dataset.augmentation)
