"""Recoloured probe images."""

from __future__ import annotations

import torch

from miclip.alignment.recolour import Recoloured, recolour
from miclip.demo.probe import demo_probe


def test_colours_change_and_the_drawing_stays() -> None:
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[0, 8:24, 8:24] = 200
    changed = [recolour(image, torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert all(one.shape == image.shape and one.dtype == torch.uint8 for one in changed)
    assert len({tuple(one[:, 16, 16].tolist()) for one in changed}) > 6
    for one in changed:  # two even regions before, two even regions after
        assert len(one.flatten(1).unique(dim=1).T) <= 2


def test_rows_are_recoloured_alike_whichever_are_asked_for() -> None:
    probe = demo_probe()
    some, all_of_them = Recoloured(probe, [3, 70, 71]), Recoloured(probe, list(range(100)))
    assert some.names == (probe.names[3], probe.names[70], probe.names[71])
    for place, row in enumerate((3, 70, 71)):
        (one,), (same,) = some.load(place, place + 1), all_of_them.load(row, row + 1)
        assert torch.equal(one, same)
        assert not torch.equal(one, probe.load(row, row + 1)[0])
    assert some.sha256 != all_of_them.sha256 != probe.sha256
