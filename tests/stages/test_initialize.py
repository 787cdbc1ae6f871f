"""The stage that writes starting weights, with a stand-in for the ImageNet file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import pretrained
from deepnets.base import files
from deepnets.config import registry
from deepnets.data import mirrors
from deepnets.networks import models, saving
from deepnets.stages import initialize
from project import ROOT, edit_yaml

NAME = "vgg16_stand_in.h5"


@pytest.fixture
def backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    """A backbone whose weights a mirror offers in the published format, their digest pinned.

    The study in the current folder has two seeds.
    """
    offered = tmp_path / "mirror" / NAME
    offered.parent.mkdir()
    backbone = pretrained.stand_in("vgg16", offered)
    vgg16 = registry.architectures()["vgg16"]
    pinned = registry.PublishedWeights(url=NAME, md5=files.file_digest(offered, "md5"))
    monkeypatch.setitem(registry.architectures(), "vgg16", replace(vgg16, imagenet=pinned))
    monkeypatch.setenv(mirrors.VARIABLE, str(offered.parent))
    study = tmp_path / "study"
    study.mkdir()
    (study / "params.yaml").write_text((ROOT / "params.yaml").read_text())

    def two_seeds(params: dict[str, Any]) -> None:
        params["train"]["seed"] = [0, 1]

    edit_yaml(study / "params.yaml", two_seeds)
    monkeypatch.chdir(study)
    return backbone


def test_imagenet_weights_are_fetched_once_and_start_every_seed(
    backbone: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialize.main("vgg16-imagenet")
    monkeypatch.setenv(mirrors.VARIABLE, "/nowhere")
    initialize.main("vgg16-imagenet")
    tops = []
    for seed in (0, 1):
        model = models.build("vgg16", 32, dropout=0.5)
        saving.load_start(model, Path(f"data/weights/vgg16-imagenet/seed-{seed}.weights.h5"))
        for ours, theirs in zip(
            model.get_layer("vgg16").get_weights(), backbone.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        tops.append(model.get_layer("logits").get_weights()[0])
    assert not np.array_equal(*tops)


def test_weights_that_a_study_describes_start_it_as_imagenet_does(
    backbone: keras.Model, tmp_path: Path
) -> None:
    offered = tmp_path / "mirror" / NAME
    described = {"source": NAME, "sha256": files.file_digest(offered), "archs": ["vgg16"]}

    def describe(params: dict[str, Any]) -> None:
        params["starting_weights"] = {"other": described}
        params["runs"]["vgg16-sgd-other"] = {
            "arch": "vgg16",
            "optimizer": "sgd",
            "weights": "other",
        }
        params["initialize"].append("vgg16-other")

    edit_yaml(Path("params.yaml"), describe)
    for weights in ("imagenet", "other"):
        initialize.main(f"vgg16-{weights}")
    for seed in (0, 1):
        first, second = (
            Path(f"data/weights/vgg16-{weights}/seed-{seed}.weights.h5").read_bytes()
            for weights in ("imagenet", "other")
        )
        assert first == second
