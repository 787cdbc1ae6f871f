"""Write the exact weights that runs start from, so that optimizers are compared from one point."""

from pathlib import Path
from typing import cast

from deepnets import files, mirrors, models, params, project
from deepnets.params import Arch, Weights


def main(start: str) -> None:
    """Write data/weights/`start`, `start` being ARCH-WEIGHTS: a file a seed."""
    study = params.load()
    study.check_start(start)
    arch, weights = start.split("-", 1)
    for seed in study.train.seeds:
        write(
            cast(Arch, arch),
            cast(Weights, weights),
            seed,
            study.preprocess.image_size,
            project.start_file(project.STARTS / start, seed),
        )


def write(arch: Arch, weights: Weights, seed: int, image_size: int, target: Path) -> None:
    """Draw or load the starting weights and save them to `target`.

    ImageNet weights are fetched once into data/imagenet and checked against Keras' digest.
    """
    imagenet_file = None
    if weights == "imagenet":
        imagenet_file = project.IMAGENET / mirrors.IMAGENET[arch].name
        mirrors.imagenet(arch, imagenet_file)
    classifier = models.initialize(arch, weights, seed, image_size, imagenet_file)
    files.require_room(target.parent, 6 * classifier.count_params(), "starting weights")
    models.save_start(classifier, target)
    files.seal(target)
    print(f"{target}: sha256 {models.weights_digest(classifier)[:16]}")
