"""Layer lists of both networks as `models.layers` gives them (test_models.py compares)."""

from typing import Any

Layers = list[dict[str, Any]]


class _Net:
    """Layers one after the other, unless told otherwise."""

    def __init__(self, size: int) -> None:
        self.layers: Layers = []
        self.shape = [size, size, 3]
        self.add("scale", "Rescaling")

    def add(self, name: str, kind: str, *inputs: str, parameters: int = 0) -> str:
        before = list(inputs) or [layer["name"] for layer in self.layers[-1:]]
        self.layers.append(
            {
                "name": name,
                "kind": kind,
                "output_shape": list(self.shape),
                "parameters": parameters,
                "inputs": before,
            }
        )
        return name

    def conv(self, name: str, units: int, side: int, *inputs: str, channels: int = 0) -> str:
        parameters = (side**2 * (channels or self.shape[-1]) + 1) * units
        self.shape[-1] = units
        return self.add(name, "Conv2D", *inputs, parameters=parameters)

    def norm(self, name: str, *inputs: str) -> str:
        return self.add(name, "BatchNormalization", *inputs, parameters=4 * self.shape[-1])

    def resize(self, side: int) -> None:
        self.shape[:2] = [side, side]

    def top(self, pool: str) -> Layers:
        self.shape = self.shape[-1:]
        self.add(pool, "GlobalAveragePooling2D")
        self.add("dropout", "Dropout")
        parameters = (self.shape[0] + 1) * 10
        self.shape = [10]
        self.add("logits", "Dense", parameters=parameters)
        self.add("probabilities", "Softmax")
        return self.layers


def vgg16(size: int = 32) -> Layers:
    net = _Net(size)
    for block, (units, count) in enumerate(
        [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1
    ):
        for conv in range(1, count + 1):
            net.conv(f"block{block}_conv{conv}", units, 3)
        net.resize(net.shape[0] // 2)
        net.add(f"block{block}_pool", "MaxPooling2D")
    return net.top("avg_pool")


def resnet50(size: int = 32) -> Layers:
    net = _Net(size)
    net.resize(size + 6)
    net.add("conv1_pad", "ZeroPadding2D")
    net.resize(size // 2)
    net.conv("conv1_conv", 64, 7)
    net.norm("conv1_bn")
    net.add("conv1_relu", "Activation")
    net.resize(size // 2 + 2)
    net.add("pool1_pad", "ZeroPadding2D")
    net.resize(size // 4)
    net.add("pool1_pool", "MaxPooling2D")
    for stage, (units, count) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=2):
        if stage > 2:
            net.resize(-(-net.shape[0] // 2))
        for block in range(1, count + 1):
            _residual_block(net, f"conv{stage}_block{block}", units, projection=block == 1)
    return net.top("avg_pool")


def _residual_block(net: _Net, name: str, units: int, projection: bool) -> None:
    entry, channels = net.layers[-1]["name"], net.layers[-1]["output_shape"][-1]
    for index, side in ((1, 1), (2, 3)):
        net.conv(f"{name}_{index}_conv", units, side)
        net.norm(f"{name}_{index}_bn")
        relu = net.add(f"{name}_{index}_relu", "Activation")
    # Keras lists layers by their distance to the end: the shortcut comes late.
    shortcut = entry
    if projection:
        shortcut = net.conv(f"{name}_0_conv", 4 * units, 1, entry, channels=channels)
    last = net.conv(f"{name}_3_conv", 4 * units, 1, relu, channels=units)
    if projection:
        shortcut = net.norm(f"{name}_0_bn", shortcut)
    net.norm(f"{name}_3_bn", last)
    net.add(f"{name}_add", "Add", shortcut, f"{name}_3_bn")
    net.add(f"{name}_out", "Activation")
