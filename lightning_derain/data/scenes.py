"""Which images show the same scene, by thumbnails that survive cropping by a pixel and re-compression; torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAME_SCENE = 0.97
SIDE = 16
SAME_BITS = 12


def reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The grey values of an image of 16x16 pixels, `(256,)`, of an `(H, W, 3)` one."""
    return np.asarray(Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)).ravel()


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A grey image of 16x16 pixels as a vector of mean 0 and length 1, so that the dot product is the correlation.

    Args:
        image: `(H, W, 3)` uint8.

    Returns:
        `(256,)`; zeros for a flat image.
    """
    return unit(reduced(image))


def unit(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey values as a vector of mean 0 and length 1, or of zeros where they are all the same."""
    vector = grey.astype(np.float32)
    vector -= vector.mean()
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


def scene_hash(scene: NDArray[np.float32]) -> str:
    """256 bits, as 64 hexadecimal digits: which pixels of a thumbnail are brighter than its median.

    Args:
        scene: what `thumbnail` made.
    """
    return np.packbits(scene > np.median(scene)).tobytes().hex()


def known_scenes(scenes: Sequence[NDArray[np.float32]], hashes: Sequence[str]) -> int:
    """How many of the known hashes have a scene within 12 bits (other scenes are 16 and more apart, mostly 25)."""
    bits = [int(scene_hash(scene), 16) for scene in scenes] if hashes else []
    return sum(any((int(known, 16) ^ found).bit_count() <= SAME_BITS for found in bits) for known in hashes)


def shared_scenes(first: Sequence[NDArray[np.float32]], second: Sequence[NDArray[np.float32]]) -> list[tuple[int, int]]:
    """Index pairs whose thumbnails correlate by more than 0.97, for each of `first` its best match in `second`.

    Args:
        first: thumbnails, e.g. of the training set.
        second: thumbnails, e.g. of the test set.
    """
    if not first or not second:
        return []
    correlation = np.stack(first) @ np.stack(second).T
    best = correlation.argmax(1)
    return [(i, int(j)) for i, j in enumerate(best) if correlation[i, j] > SAME_SCENE]
