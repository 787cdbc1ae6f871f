"""Diagrams: what is found in a list of layers, and that it is all drawn."""

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Rectangle

import architectures
from architectures import Layers
from deepnets.reporting import diagrams

VGG16, RESNET50 = architectures.vgg16(), architectures.resnet50()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def boxes(figure: Figure) -> list[Rectangle]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize(
    ("layers", "names", "blocks", "convolutions", "backbone"),
    [
        (
            VGG16,
            ["input", "block1", "block2", "block3", "block4", "block5", "top"],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 2, 2, 3, 3, 3, 0],
            14_714_688,
        ),
        (
            RESNET50,
            ["input", "stem", "conv2", "conv3", "conv4", "conv5", "top"],
            [0, 0, 3, 4, 6, 3, 0],
            [0, 1, 10, 13, 19, 10, 0],
            23_587_712,
        ),
    ],
    ids=["vgg16", "resnet50"],
)
def test_stages_are_found(
    layers: Layers, names: list[str], blocks: list[int], convolutions: list[int], backbone: int
) -> None:
    stages = diagrams.stages(layers)
    assert [stage.name for stage in stages] == names
    assert [len(stage.blocks) for stage in stages] == blocks
    assert [stage.count("Conv2D") for stage in stages] == convolutions
    assert sum(stage.parameters for stage in stages[:-1]) == backbone
    assert [layer for stage in stages for layer in stage.layers] == layers


def test_every_convolution_of_vgg16_is_drawn_with_its_kernel() -> None:
    written = texts(diagrams.network(VGG16, "VGG-16"))
    assert [written.count(f"3x3, {channels}") for channels in (64, 128, 256, 512)] == [2, 2, 3, 6]
    assert written.count("max pool") == 5
    assert {"16x16x64", "1x1x512", "38,720", "7,079,424", "5,130"} <= set(written)
    assert "23 layers, 13 convolutions, 14,719,818 parameters" in written


def test_every_block_of_resnet50_is_drawn_with_its_shortcut() -> None:
    figure = diagrams.network(RESNET50, "ResNet50")
    written = texts(figure)
    assert {"7x7, 64", "8x8x256", "14,998,528"} <= set(written)
    assert written.count("256-256-1024") == 6
    arcs = [patch for patch in figure.axes[0].patches if isinstance(patch, Arc)]
    assert [arc.get_linestyle() for arc in arcs] == [
        "-" if block == 0 else ":" for count in (3, 4, 6, 3) for block in range(count)
    ]
    details = [text for text in written if "_block" in text]
    assert details == ["conv2_block1 (and 3 more like it)", "conv2_block2 (and 11 more like it)"]


def test_other_networks_can_be_drawn() -> None:
    """Counts are those of the list: here two blocks and no stem, and no blocks at all."""
    start = RESNET50.index(next(x for x in RESNET50 if x["name"].startswith("conv2_block1")))
    short = [*RESNET50[:start], *RESNET50[start : start + 22], *RESNET50[-4:]]
    assert [len(stage.blocks) for stage in diagrams.stages(short)] == [0, 0, 2, 0]
    assert "conv2_block2" in texts(diagrams.network(short, "short"))
    plain = [*VGG16[:4], *VGG16[-4:]]
    assert len(boxes(diagrams.network(plain, "plain"))) == 8


def test_larger_images_make_higher_boxes() -> None:
    small, large = (boxes(diagrams.network(architectures.vgg16(n), "")) for n in (32, 224))
    assert large[0].get_height() > small[0].get_height()
    heights = [box.get_height() for box in small]
    assert heights == sorted(heights, reverse=True)


def test_kernel_that_does_not_follow_from_the_parameters_is_left_out() -> None:
    odd = [dict(layer) for layer in VGG16]
    odd[1]["parameters"] = 15 * 3 * 64 + 64  # 3x5
    written = texts(diagrams.network(odd, "odd"))
    assert "conv, 64" in written
    assert written.count("3x3, 64") == 1


@pytest.mark.parametrize(
    ("layers", "backbone"), [(VGG16, "18 layers"), (RESNET50, "174 layers")], ids=["vgg", "resnet"]
)
def test_modified_top_is_drawn_layer_by_layer(layers: Layers, backbone: str) -> None:
    figure = diagrams.modified_top(layers, "its top")
    written = texts(figure)
    words = ("backbone", "average pool", "dropout", "dense", "softmax")
    # The name of dropout's layer is that of its kind.
    assert [text for text in written if text in words] == [*words[:3], *words[2:]]
    assert {backbone, "logits", "probabilities", f"{layers[-2]['parameters']:,}"} <= set(written)
    assert len(boxes(figure)) == len(words)
