"""Decoding images of NIH's size, and loading them again, beside a plain PIL loop."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import Row, from_pairs, print_rows, runs, seconds, side_by_side
from fedtutor.datasets.cache import cached_images
from fedtutor.datasets.decode import read_images
from fedtutor.datasets.phantoms import chest_phantoms

COUNT = runs(240, 120)
SIZE = 128


def write_images(folder: Path) -> list[Path]:
    """1024² grey PNG as NIH's: enlarged phantoms with a film's grain."""
    rng = np.random.default_rng(0)
    phantoms = chest_phantoms(COUNT, size=128, seed=0).images[..., 0]
    files = []
    for number, phantom in enumerate(phantoms):
        large = np.asarray(Image.fromarray(phantom).resize((1024, 1024), Image.Resampling.BICUBIC))
        grain = rng.normal(0, 2, large.shape)
        files.append(folder / f"{number:08d}_000.png")
        Image.fromarray(np.uint8(np.clip(large + grain, 0, 255))).save(files[-1])
    return files


def image_rows() -> list[Row]:
    folder = Path(tempfile.mkdtemp())
    try:
        files = write_images(folder)

        def plain() -> np.ndarray:
            shape = (SIZE, SIZE)
            return np.stack(
                [np.asarray(Image.open(f).convert("L").resize(shape, Image.Resampling.BOX))
                 for f in files]
            )  # fmt: skip

        def ours() -> np.ndarray:
            return read_images(files, size=SIZE).images[..., 0]

        np.testing.assert_array_equal(ours(), plain())
        decoding = side_by_side(
            "decoding 1024² PNG to 128²",
            ours,
            plain,
            work=f"{COUNT} files, all cores, every file checked",
            beside="one plain loop of PIL's open, convert and resize",
            target="≥ 1.7",
            quick=3,
            scale=1e3 / COUNT,
            unit="ms an image",
        )
        pairs = []
        for _ in range(runs(5, 3)):
            cache = folder / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            first = seconds(lambda: cached_images(files, size=SIZE, folder=cache))  # noqa: B023
            second = min(
                seconds(lambda: cached_images(files, size=SIZE, folder=cache))  # noqa: B023
                for _ in range(3)
            )
            pairs.append((1e3 * second, 1e3 * first))
        loading = from_pairs(
            "loading them a second time",
            pairs,
            work=f"{COUNT} files, from the cache; their checksum is compared, they are mapped",
            beside="the first time, which decodes",
            target="≥ 300",
            unit="ms",
        )
        return [decoding, loading]
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    print_rows(image_rows())
