"""Linear evaluation: how well a linear classifier does on features that stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vssl.protocol.finetune import Classification, Classifier
from vssl.types import Backbone, Objective


class LinearProbe(Classification):
    """Predict the video's class from a clip, training the head alone."""

    min_batch = 2  # the head's batch norm

    def objective(self, backbone: Backbone) -> Objective:
        return FrozenClassifier(backbone, self.num_classes)


class FrozenClassifier(Classifier):
    """A backbone that never changes, in evaluation mode even while the head trains, and one linear layer.

    Batch norm without weights of its own scales the features for the layer, as for the linear
    classifiers of MAE (He et al. 2022, appendix A.1): backbones differ in scale by more than any one
    learning rate can bear. Together they are still linear.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone.requires_grad_(False), num_classes)
        self.scale = nn.BatchNorm1d(backbone.feature_dim, affine=False)

    def train(self, mode: bool = True) -> FrozenClassifier:
        """Set the mode of the head."""
        super().train(mode)
        self.backbone.eval()
        return self

    def features(self, clips_BCTHW: Tensor) -> Tensor:
        with torch.no_grad():
            features_BD = self.backbone(clips_BCTHW)
        scaled_BD: Tensor = self.scale(features_BD)
        return scaled_BD
