"""ResNet with one residual block a stage and a sixteenth of ResNet50's filters."""

from typing import Any

from deepnets.config.registry import Architecture, PublishedWeights


def build(**options: Any) -> Any:
    from keras.src.applications import resnet

    def stages(x: Any) -> Any:
        for stage, filters in enumerate((4, 8, 16, 32), start=2):
            x = resnet.stack_residual_blocks_v1(x, filters, 1, name=f"conv{stage}")
        return x

    return resnet.ResNet(stages, False, True, weights_name="small", **options)


ARCHITECTURE = Architecture(
    title="ResNet50",
    build=build,
    input_range="unit",
    imagenet=PublishedWeights(url="nowhere.h5", md5=32 * "0"),
    variants=frozenset({"stem", "stages", "zero_gamma"}),
)
