"""Photographs as people have them: read and written with depth, alpha and metadata, upright, and never half-written."""

from __future__ import annotations

import io
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from lightning_derain.errors import UserError
from lightning_derain.photos.containers import (
    add_jpeg_segments,
    encode_png,
    jpeg_segments,
    png_chunks,
    riff_chunks,
)
from lightning_derain.photos.photo import Metadata, Photo, Samples, split, upright

__all__ = ["MAX_PIXELS", "Metadata", "Photo", "Samples", "pixel_count", "read_photo", "write_photo"]

MAX_PIXELS = 500_000_000
"""More than any camera has; a file that claims more is refused before it fills the memory."""

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
EXIF_SEGMENT, XMP_SEGMENT = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
APP1, COMMENT, APP13 = 0xE1, 0xFE, 0xED
MAX_SEGMENT = 0xFFFF - 2
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
PNG_KEPT = (b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
INCH = 0.0254


def read_photo(path: Path) -> Photo:
    """A photograph from a PNG, JPEG, TIFF, WebP or BMP file.

    Depth (8 or 16 bit), grey and alpha stay; palettes become RGB; CMYK becomes sRGB; the EXIF orientation is applied.
    Of several pages or frames the first one is read, and `notes` says so.

    Raises:
        UserError: if the file is missing, empty, damaged, too large or of another kind.
    """
    try:
        data = path.read_bytes()
        if not data:
            raise ValueError("the file is empty")
        return _decode(data)
    except FileNotFoundError:
        raise UserError(f"No image at {path}.") from None
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a PNG, JPEG, TIFF, WebP or BMP image, or is damaged.") from error
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error, zlib.error) as error:
        raise UserError(f"{path} can't be read as an image: {getattr(error, 'strerror', None) or error}.") from error


def write_photo(path: Path, photo: Photo) -> None:
    """Writes a photograph in the format of the path's suffix, at once: the file is there whole or not at all.

    JPEG has quality 95 without chroma subsampling; WebP likewise unless the photograph was stored without loss.

    Raises:
        UserError: if the format can't hold the photograph (16 bit or alpha), or the folder can't be written to.
    """
    if path.suffix.lower() not in ENCODERS:
        raise UserError(f"{path} can't be written: choose one of {', '.join(ENCODERS)}.")
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(ENCODERS[path.suffix.lower()](photo))
        part.replace(path)
    except (OSError, ValueError, struct.error) as error:
        raise UserError(f"{path} can't be written: {getattr(error, 'strerror', None) or error}.") from error
    finally:
        part.unlink(missing_ok=True)


def pixel_count(path: Path) -> int:
    """Pixels of an image file according to its header; 0 where Pillow can't read that."""
    try:
        with _own_pixel_limit(), Image.open(path) as image:
            return int(image.width * image.height)
    except (OSError, SyntaxError, ValueError):
        return 0


@contextmanager
def _own_pixel_limit() -> Iterator[None]:
    """Pillow warns at 89 megapixels, which cameras have by now; `MAX_PIXELS` stands in."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def check_size(width: int, height: int) -> None:
    """Refuses an image that claims too many pixels, with a ValueError."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"it claims {width} x {height} pixels, more than {MAX_PIXELS // 10**6} megapixels")


def _decode(data: bytes) -> Photo:
    if data[:4] in TIFF_STARTS:
        from lightning_derain.photos.tiff import decode_tiff

        return decode_tiff(data)
    with _own_pixel_limit(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        check_size(*image.size)
        metadata = _metadata(image, data)
        deep = image.format == "PNG" and data[24] == 16
        photo = _decode_png16(data) if deep else unpack(image)
        lossless = image.format in ("PNG", "BMP") or b"VP8L" in riff_chunks(data)
        frames, mode = getattr(image, "n_frames", 1), image.mode
    notes = (*photo.notes, f"only the first of its {frames} frames was used") if frames > 1 else photo.notes
    metadata = replace(metadata, icc=None) if mode == "CMYK" else metadata
    return upright(replace(photo, metadata=metadata, lossless=lossless, notes=notes))


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
    grey = image.mode in ("1", "L", "LA", "La")
    if not grey and image.mode not in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
        raise ValueError(f"its colour mode {image.mode} is not supported; save it as grey or RGB of 8 or 16 bit")
    transparent = "a" in image.mode.lower() or "transparency" in image.info
    image = image.convert("L") if image.mode == "1" else image
    wanted = ("L" if grey else "RGB") + ("A" if transparent else "")
    return replace(split(np.asarray(image if image.mode == wanted else image.convert(wanted)), grey), notes=notes)


def _srgb(image: Image.Image) -> Image.Image:
    """A CMYK image in sRGB, by its colour profile where it has a sound one."""
    if not (icc := image.info.get("icc_profile")):
        return image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")
    return converted or image.convert("RGB")


def decode_by_opencv(data: bytes) -> NDArray[Any]:
    """Pixels of 16 bit, `(H, W)` or `(H, W, 3 or 4)` in RGB order, as stored (not turned)."""
    import cv2

    stack = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stack is None or stack.dtype != np.uint16:
        raise ValueError("it is damaged, or stored in a way that is not supported; save it anew without compression")
    if stack.ndim == 3:
        stack[..., :3] = stack[..., 2::-1].copy()
    return np.asarray(stack)


def _metadata(image: Image.Image, data: bytes) -> Metadata:
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    dpi = image.info.get("dpi")
    dpi = (float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None
    metadata = Metadata(exif and exif.removeprefix(EXIF_SEGMENT), image.info.get("icc_profile"), xmp, dpi)
    if image.format == "PNG":
        chunks = list(png_chunks(data))
        exif = next((content for name, content in chunks if name == b"eXIf"), None)
        xmp = next((_itxt(text) for name, text in chunks if name == b"iTXt" and text.startswith(XMP_KEYWORD)), None)
        png = tuple(c for c in chunks if c[0] in PNG_KEPT and not c[1].startswith(XMP_KEYWORD))
        return replace(metadata, exif=exif, xmp=xmp, png=png)
    if image.format in ("JPEG", "MPO"):
        segments = list(jpeg_segments(data))
        xmp = next((content[len(XMP_SEGMENT) :] for _, content in segments if content.startswith(XMP_SEGMENT)), None)
        return replace(metadata, xmp=xmp, jpeg=tuple(s for s in segments if s[0] in (COMMENT, APP13)))
    return metadata


def _itxt(content: bytes) -> bytes:
    """The text of an iTXt chunk (keyword, compression flag and method, language, translated keyword, text)."""
    flags_on = content.split(b"\0", 1)[1]
    text = flags_on[2:].split(b"\0", 2)[2]
    return zlib.decompressobj().decompress(text, 1 << 26) if flags_on[0] else text


def _encode_png(photo: Photo) -> bytes:
    metadata, chunks = photo.metadata, list(photo.metadata.png)
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", XMP_KEYWORD + bytes(4) + metadata.xmp))
    if metadata.dpi:
        across, down = (round(dots / INCH) for dots in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    return encode_png(photo.stack, chunks)


def _encode_jpeg(photo: Photo) -> bytes:
    metadata, segments = photo.metadata, list(photo.metadata.jpeg)
    if metadata.xmp and len(XMP_SEGMENT) + len(metadata.xmp) <= MAX_SEGMENT:
        segments.insert(0, (APP1, XMP_SEGMENT + metadata.xmp))
    if metadata.exif:
        segments.insert(0, (APP1, EXIF_SEGMENT + metadata.exif))
    options = {"quality": 95, "subsampling": 0, "icc_profile": metadata.icc, "dpi": metadata.dpi or (0, 0)}
    return add_jpeg_segments(_by_pillow(photo, "JPEG", **options), segments)


def _encode_webp(photo: Photo) -> bytes:
    metadata = photo.metadata
    extras = {"exif": metadata.exif or b"", "xmp": metadata.xmp or b"", "icc_profile": metadata.icc}
    return _by_pillow(photo, "WEBP", lossless=photo.lossless, quality=95, exact=True, **extras)


def _encode_bmp(photo: Photo) -> bytes:
    return _by_pillow(photo, "BMP", dpi=photo.metadata.dpi or (96, 96))


def _by_pillow(photo: Photo, kind: str, **options: Any) -> bytes:
    if photo.pixels.dtype != np.uint8:
        raise ValueError(f"{kind} has no 16 bit; choose PNG or TIFF")
    if photo.alpha is not None and kind != "WEBP":
        raise ValueError(
            f"{kind} has no {'' if kind == 'JPEG' else 'grey with '}transparency; choose PNG, TIFF or WebP"
        )
    stack, file = photo.stack, io.BytesIO()
    Image.fromarray(stack[..., 0] if stack.shape[2] == 1 else stack).save(file, kind, **options)
    return file.getvalue()


def _encode_tiff(photo: Photo) -> bytes | bytearray:
    from lightning_derain.photos.tiff import encode_tiff

    return encode_tiff(photo)


ENCODERS: dict[str, Callable[[Photo], bytes | bytearray]] = {
    ".png": _encode_png,
    ".jpg": _encode_jpeg,
    ".jpeg": _encode_jpeg,
    ".tif": _encode_tiff,
    ".tiff": _encode_tiff,
    ".webp": _encode_webp,
    ".bmp": _encode_bmp,
}
"""What writes each suffix."""
