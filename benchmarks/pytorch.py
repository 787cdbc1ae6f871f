"""PyTorch, eager and channels-last: the same networks, batch, optimizers and augmentation.

    python benchmarks/pytorch.py ARCH OPTIMIZER

Needs benchmarks/requirements.txt. The networks are those of keras.applications, layer for layer
(ResNet50 as first published: the stride in a block's first convolution, biases everywhere).
"""

import os
import sys
import time
from typing import Literal

# The project's drawing of transforms imports Keras: with this backend, TensorFlow stays out.
os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch
from torch import nn

from common import SIZE, digits, recipe, serve
from deepnets.data import splits
from deepnets.training import augment, batches

_EPSILON = 1.001e-5
_VGG16: tuple[int | Literal["pool"], ...] = (
    *(64, 64, "pool", 128, 128, "pool"),
    *(256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool"),
)
# Width, blocks and stride of ResNet50's four stages.
_RESNET50 = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
# Trainable parameters of the classifiers, as the tests of this project have them.
PARAMETERS = {"vgg16": 14_719_818, "resnet50": 23_555_082}


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, width: int, stride: int, project: bool) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, width, 1, stride),
            nn.BatchNorm2d(width, _EPSILON, 0.01),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width, _EPSILON, 0.01),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 4 * width, 1),
            nn.BatchNorm2d(4 * width, _EPSILON, 0.01),
        )
        self.shortcut: nn.Module = nn.Identity()
        if project:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride),
                nn.BatchNorm2d(4 * width, _EPSILON, 0.01),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.path(x) + self.shortcut(x))


def vgg16() -> list[nn.Module]:
    """The backbone's layers, from float32 (n, 3, 32, 32) to (n, 512, 1, 1)."""
    layers: list[nn.Module] = []
    channels = 3
    for size in _VGG16:
        if size == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, size, 3, padding=1), nn.ReLU(inplace=True)]
            channels = size
    return layers


def resnet50() -> list[nn.Module]:
    """The backbone's layers, from float32 (n, 3, 32, 32) to (n, 2048, 1, 1)."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, padding=3),
        nn.BatchNorm2d(64, _EPSILON, 0.01),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, padding=1),
    ]
    channels = 64
    for width, blocks, stride in _RESNET50:
        for number in range(blocks):
            first = number == 0
            layers.append(_Block(channels, width, stride if first else 1, first))
            channels = 4 * width
    return layers


def warp(images: torch.Tensor, transforms: torch.Tensor) -> torch.Tensor:
    """What augment.Warp does: float32 (n, 3, size, size), transforms (n, 8) of augment.compose."""
    size = images.shape[-1]
    axis = torch.arange(size, dtype=torch.float32, device=images.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)
    read = transforms[:, :6].reshape(-1, 2, 3) @ pixels
    grid = ((2 * read + 1) / size - 1).permute(0, 2, 1).reshape(-1, size, size, 2)
    return nn.functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def network(arch: str, dropout: float) -> nn.Module:
    """The whole classifier, channels-last: float32 (n, 3, 32, 32) to logits (n, 10)."""
    layers, width = (vgg16(), 512) if arch == "vgg16" else (resnet50(), 2048)
    top = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, 10)]
    model = nn.Sequential(*layers, *top).to(memory_format=torch.channels_last)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != PARAMETERS[arch]:
        raise SystemExit(f"expected {PARAMETERS[arch]:,} parameters in {arch}, received {count:,}")
    return model


def scale(arch: str) -> tuple[float, float]:
    """What the study's code multiplies pixels by, and adds then."""
    return (1 / 127.5, -1.0) if arch == "vgg16" else (1 / 255, 0.0)


def main(arch: str, optimizer: str) -> None:
    """Serve training steps of `arch` with `optimizer`."""
    run = recipe(arch, optimizer)
    torch.manual_seed(run.seed)
    model = network(arch, run.dropout)

    # PyTorch's own fused updates are its fastest on a CPU.
    if optimizer == "adam":
        rule: torch.optim.Optimizer = torch.optim.Adam(
            model.parameters(), run.learning_rate, eps=run.flat["epsilon"], fused=True
        )
    else:
        rule = torch.optim.SGD(
            model.parameters(), run.learning_rate, momentum=run.flat["momentum"], fused=True
        )
    decay = torch.optim.lr_scheduler.LambdaLR(rule, lambda step: 1 / (1 + run.decay * step))
    loss_of = nn.CrossEntropyLoss()
    images, labels = digits(5000)
    split = splits.Split(images, labels)
    factor, offset = scale(arch)
    model.train()

    def train(steps: int) -> float:
        started = time.perf_counter()
        for _, batch in zip(range(steps), batches.batches(split, run, 1), strict=False):
            pixels = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float()
            x = warp(pixels, torch.from_numpy(batch.transforms)) * factor + offset
            targets = torch.from_numpy(batch.labels.astype(np.int64))
            logits = model(x.contiguous(memory_format=torch.channels_last))
            loss = loss_of(logits, targets)
            rule.zero_grad()
            loss.backward()
            rule.step()
            decay.step()
            loss.item()
            (logits.argmax(1) == targets).sum().item()
        return time.perf_counter() - started

    serve(train)


def _check_warp() -> None:
    """Compare `warp` with the project's own augmentation, pixel by pixel."""
    images, _ = digits(64)
    transforms = augment.draw_transforms(np.random.default_rng(0), 64, SIZE, 10, 0.1, 0.1)
    theirs = warp(
        torch.from_numpy(images).permute(0, 3, 1, 2).float(), torch.from_numpy(transforms)
    )
    ours = np.asarray(augment.Warp()(images, transforms)).transpose(0, 3, 1, 2)
    worst = float(np.abs(theirs.numpy() - ours).max())
    print(f"largest difference of a pixel: {worst:.3f} of 255")
    raise SystemExit(int(worst > 1))


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        _check_warp()
    main(*sys.argv[1:])
