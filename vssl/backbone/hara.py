"""3D ResNet in the style of Hara et al., the ResNet-18 of RSPNet."""

from torch import nn

from vssl.backbone.resnet3d import ResidualNet, conv3d


class ResNet3D(ResidualNet):
    """3D ResNet (Hara et al. 2018) as in RSPNet: stem 7x7x7 and a max-pool; Kaiming initialisation.

    Deviation: features are a global average, where Hara's code pools a window of fixed size; RSPNet's
    heads pool globally too.

    blocks: number of basic blocks of each stage; 2, 2, 2, 2 is ResNet-18.
    """

    def __init__(self, blocks: list[int]) -> None:
        super().__init__(conv3d, stem_kernel=(7, 7, 7), blocks=blocks)
        self.stem.add_module("pool", nn.MaxPool3d(kernel_size=3, stride=2, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
