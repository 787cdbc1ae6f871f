"""Write the exact weights that runs start from, so that optimizers are compared from one point."""

from pathlib import Path

from deepnets.base import files, project
from deepnets.config import params, registry
from deepnets.config.fields import Arch, Weights
from deepnets.config.sections import StartingWeights
from deepnets.data import mirrors
from deepnets.networks import models, saving


def main(start: str) -> None:
    """Write data/weights/`start`, `start` being ARCH-WEIGHTS: a file a seed."""
    study = params.load()
    study.check_start(start)
    arch, weights = start.split("-", 1)
    for seed in study.train.seeds:
        write(
            *(arch, weights, seed, study.preprocess.image_size),
            project.start_file(project.STARTS / start, seed),
            study.starting_weights.get(weights),
        )


def write(
    arch: Arch,
    weights: Weights,
    seed: int,
    image_size: int,
    target: Path,
    described: StartingWeights | None = None,
) -> None:
    """Draw or load the starting weights and save them to `target`.

    Those from a file (Keras' ImageNet weights, or those that the study has `described`) are fetched
    once into data/imagenet and checked against the digest.
    """
    file = None
    if described is not None:
        pinned = mirrors.PinnedFile.at(described.source, f"sha256:{described.sha256}")
        file = project.IMAGENET / weights / pinned.name
        mirrors.weights(pinned, file, f"{weights} weights of {arch}")
    elif weights == "imagenet":
        published = registry.architectures()[arch].imagenet
        assert published is not None  # which `check` has seen
        pinned = mirrors.PinnedFile.at(published.url, f"md5:{published.md5}")
        file = project.IMAGENET / pinned.name
        mirrors.weights(pinned, file, f"ImageNet weights of {arch}")
    classifier = models.initialize(arch, weights, seed, image_size, file)
    saving.require_openable(classifier, arch)
    files.require_room(target.parent, 6 * classifier.count_params(), "starting weights")
    saving.save_start(classifier, target)
    files.seal(target)
    print(f"{target}: sha256 {saving.weights_digest(classifier)[:16]}")
