"""Pictures: the one reader, the one writer, which files of a folder are pictures, and which belong together by name.

Nothing here imports torch.
"""

from __future__ import annotations

from lightning_derain.images.header import MAX_PIXELS
from lightning_derain.images.listing import (
    FORMATS_READ,
    IMAGE_SUFFIXES,
    images_by_stem,
    is_image,
    list_images,
    list_images_below,
    natural_key,
    natural_sorted,
    say_left_out,
)
from lightning_derain.images.names import shown
from lightning_derain.images.pairing import match
from lightning_derain.images.photo import Metadata, Photo, Samples
from lightning_derain.images.reading import (
    image_size,
    pixel_count,
    read_kind,
    read_numbers,
    read_photo,
    read_pixels,
    read_plane,
    read_rgb,
    read_unit,
    unit,
)
from lightning_derain.images.writing import write_photo, write_pixels

__all__ = [
    "FORMATS_READ",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Metadata",
    "Photo",
    "Samples",
    "image_size",
    "images_by_stem",
    "is_image",
    "list_images",
    "list_images_below",
    "match",
    "natural_key",
    "natural_sorted",
    "pixel_count",
    "read_kind",
    "read_numbers",
    "read_photo",
    "read_pixels",
    "read_plane",
    "read_rgb",
    "read_unit",
    "say_left_out",
    "shown",
    "unit",
    "write_photo",
    "write_pixels",
]
