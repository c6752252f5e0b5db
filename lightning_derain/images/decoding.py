"""Bytes of picture files as pixels: the decoders of Pillow and OpenCV, and what both leave to do."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.images.containers import check_png, png_chunks, riff_chunks
from lightning_derain.images.header import MAX_PIXELS, Header, check_size
from lightning_derain.images.metadata import EXIF_SEGMENT, read_metadata
from lightning_derain.images.photo import Metadata, Photo, split, upright

GREY = frozenset({"1", "L", "LA", "La"})
COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"})
FEW_BITS = {2: 85, 4: 17}
"""By what Pillow multiplies the values of grey PNG files of fewer than 8 bit."""


def open_image(file: BinaryIO, format: str, limit: int = MAX_PIXELS) -> Image.Image:
    """An image of Pillow's, opened by the decoder of its format, not yet decoded.

    `Image.open` tries every format that Pillow knows, and warns of, or refuses, what cameras make by now.

    Args:
        file: open, at its beginning.
        format: as `Header` has it.
        limit: of pixels.

    Raises:
        ValueError: if it claims more pixels than `limit`.
    """
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.preinit() if format in ("BMP", "JPEG", "PNG") else Image.init()
    factory, _ = Image.OPEN[format]
    image: Image.Image = factory(file, "")
    check_size(*image.size, limit)
    return image


def decode(data: bytes, header: Header, limit: int = MAX_PIXELS, metadata: bool = True) -> Photo:
    """An upright photograph out of a file's bytes.

    Args:
        data: the file.
        header: what `read_header` said of it.
        limit: of pixels.
        metadata: read, check and keep what the file holds beside its pixels.

    Raises:
        ValueError, OSError, SyntaxError and what else decoders raise: if it is damaged or not supported.
    """
    if header.format == "TIFF":
        from lightning_derain.images.tiff import decode_tiff

        return decode_tiff(data, limit)
    with open_image(io.BytesIO(data), header.format, limit) as image:
        kept = read_metadata(image, data) if metadata or header.deep else None
        if kept is None and header.format == "PNG":
            check_png(data)
        photo = _decode_png16(data) if header.deep else unpack(image)
        kept = kept or Metadata(exif=exif_of(image))  # which PNG may have after the pixels
        lossless = image.format in ("PNG", "BMP") or b"VP8L" in riff_chunks(data)
        frames, mode = getattr(image, "n_frames", 1) if metadata else 1, image.mode
    notes = (*photo.notes, f"only the first of its {frames} frames was used") if frames > 1 else photo.notes
    kept = replace(kept, icc=None) if mode == "CMYK" else kept
    return upright(replace(photo, metadata=kept, lossless=lossless, notes=notes))


def exif_of(image: Image.Image) -> bytes | None:
    """The EXIF block of a decoded image, without its prefix."""
    exif = image.info.get("exif")
    return exif.removeprefix(EXIF_SEGMENT) if isinstance(exif, bytes) else None


def _decode_png16(data: bytes) -> Photo:
    """A PNG of 16 bit; OpenCV turns a transparent colour into alpha, but not a transparent grey."""
    colour_type = data[25]
    photo = split(decode_by_opencv(data), grey=colour_type in (0, 4))
    key = dict(png_chunks(data)).get(b"tRNS") if colour_type == 0 else None
    if key is None:
        return photo
    return replace(photo, alpha=np.where(photo.pixels == int.from_bytes(key, "big"), np.uint16(0), np.uint16(65535)))


def unpack(image: Image.Image) -> Photo:
    """An image of Pillow's at 8 bit as grey or RGB, with or without alpha."""
    image.load()
    notes: tuple[str, ...] = ()
    if image.mode == "CMYK":
        image, notes = _srgb(image), ("it was converted from CMYK to sRGB",)
    grey = image.mode in GREY
    if not grey and image.mode not in COLOUR:
        raise ValueError(
            f"it has neither 8 nor 16 bits a channel (Pillow's mode {image.mode}); save it as PNG of 8 bit"
        )
    transparent = "a" in image.mode.lower() or "transparency" in image.info
    image = image.convert("L") if image.mode == "1" else image
    wanted = ("L" if grey else "RGB") + ("A" if transparent else "")
    return replace(split(np.asarray(image if image.mode == wanted else image.convert(wanted)), grey), notes=notes)


def _srgb(image: Image.Image) -> Image.Image:
    """A CMYK image in sRGB, by its colour profile where it has a sound one."""
    if not (icc := image.info.get("icc_profile")):
        return image.convert("RGB")
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")
    return converted or image.convert("RGB")


def decode_by_opencv(data: bytes) -> NDArray[Any]:
    """Pixels of 16 bit, `(H, W)` or `(H, W, 3 or 4)` in RGB order, as stored (not turned)."""
    import cv2

    logging = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # what it would print is said in an exception
    try:
        stack = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"OpenCV refuses it ({str(error).strip().splitlines()[-1]})") from error
    finally:
        logging.setLogLevel(level)
    if stack is None or stack.dtype != np.uint16:
        raise ValueError("it is damaged, or stored in a way that is not supported; save it anew without compression")
    if stack.ndim == 3:
        stack[..., :3] = stack[..., 2::-1].copy()
    return np.asarray(stack)


def numbers(image: Image.Image, data: bytes) -> NDArray[np.uint8]:
    """The first channel of an image of 8 bit as its file has it: a palette's places, not its colours.

    Args:
        image: of Pillow's.
        data: its file, of which the depth is read where Pillow has scaled it.
    """
    image.load()
    plane = np.asarray(image, np.uint8)
    plane = plane if plane.ndim == 2 else plane[..., 0]
    few = FEW_BITS.get(data[24], 1) if image.format == "PNG" and data[25] == 0 else 1
    return np.ascontiguousarray(plane // np.uint8(few), np.uint8)
