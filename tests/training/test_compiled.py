"""Seeds of a run that share a network have the bits of those that are trained alone."""

from pathlib import Path
from typing import Any

import pytest

import small_networks
from deepnets.config import registry
from seeds_in_turn import CASES, check


@pytest.mark.parametrize(("arch", "optimizer", "changes"), CASES)
def test_a_seed_after_another_has_the_bits_of_one_alone(
    arch: str,
    optimizer: str,
    changes: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, entry in small_networks.ENTRIES.items():
        monkeypatch.setitem(registry.architectures(), name, entry)
    check(tmp_path, arch, optimizer, changes)
