from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from lightning_derain.images import Metadata, Photo, read_photo, write_photo
from lightning_derain.images.exif import EXIF_IFD, GPS_IFD, add_tiff_tags, exif_block, read_directory

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def noise(*shape: int, kind: Any = np.uint8) -> NDArray[np.unsignedinteger]:
    pixels: NDArray[np.unsignedinteger] = np.random.default_rng(7).integers(
        0, np.iinfo(kind).max, shape, kind, endpoint=True
    )
    return pixels


def exif(orientation: int = 1, order: str = "<", thumbnail: bytes = b"") -> bytes:
    """An EXIF block as a camera writes it: maker, orientation, exposure, sides, place and a thumbnail."""

    def short(value: int) -> tuple[int, int, bytes]:
        return 3, 1, struct.pack(order + "H", value)

    tags: Any = {
        271: (2, 6, b"Maker\0"),
        0x0112: short(orientation),
        EXIF_IFD: {33434: (5, 1, struct.pack(order + "II", 1, 60)), 0xA002: short(7), 0xA003: short(5)},
        GPS_IFD: {1: (2, 2, b"N\0")},
    }
    block = exif_block(tags, order)
    if not thumbnail:
        return block
    end = 8 + 2 + 12 * len(tags)
    second = struct.pack(order + "HHHIIHHIII", 2, 0x0201, 4, 1, len(block) + 30, 0x0202, 4, 1, len(thumbnail), 0)
    return block[:end] + struct.pack(order + "I", len(block)) + block[end + 4 :] + second + thumbnail


ORIENTED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "lossless.webp", "deflate.tif", "lzw.tif", "lzw16.tif"])
def test_exif_orientation_is_applied_and_reset(tmp_path: Path, name: str, orientation: int) -> None:
    stored, path = np.array(ORIENTED[1], np.uint8), tmp_path / name
    if name == "lzw.tif":
        Image.fromarray(stored).save(path, compression="tiff_lzw", tiffinfo={0x0112: orientation})
    elif name == "lzw16.tif":
        save_lzw_16(path, stored.astype(np.uint16), orientation)
    else:
        pixels = np.dstack([stored] * 3) if path.suffix == ".webp" else stored
        write_photo(path, Photo(pixels, metadata=Metadata(exif(orientation), xmp=XMP)))
    photo = read_photo(path)
    pixels = photo.pixels if photo.pixels.ndim == 2 else photo.pixels[..., 0]
    assert pixels.tolist() == ORIENTED[orientation]
    write_photo(tmp_path / f"again{path.suffix}", photo)
    again = read_photo(tmp_path / f"again{path.suffix}")
    assert np.array_equal(again.pixels, photo.pixels)
    assert again.metadata.exif is not None
    assert read_directory(again.metadata.exif)[0x0112] == (3, 1, b"\1\0")
    if "lzw" not in name:
        assert (b'tiff:Orientation="1"' in (again.metadata.xmp or b"")) == (orientation > 1)


def save_lzw_16(path: Path, pixels: NDArray[np.uint16], orientation: int) -> None:
    """What neither Pillow nor tifffile writes: 16 bit LZW by OpenCV, its directory written anew with an orientation."""
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    path.write_bytes(add_tiff_tags(path.read_bytes(), {0x0112: (3, 1, struct.pack("<H", orientation))}))


@pytest.mark.parametrize("orientation", [1, 6])
def test_pillow_agrees_on_jpeg_orientation(tmp_path: Path, orientation: int) -> None:
    smooth = cv2.resize(noise(3, 4, 3), (64, 48), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95, exif=b"Exif\0\0" + exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")))
    photo = read_photo(tmp_path / "a.jpg")
    assert np.array_equal(photo.pixels, expected)
    write_photo(tmp_path / "b.jpg", photo)
    assert Image.open(tmp_path / "b.jpg").getexif()[0x0112] == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_are_kept(tmp_path: Path, suffix: str, order: str) -> None:
    metadata = Metadata(exif(1, order), SRGB, XMP, (300.0, 150.0))
    write_photo(tmp_path / f"a{suffix}", Photo(noise(8, 8, 3), metadata=metadata, lossless=False))
    kept = read_photo(tmp_path / f"a{suffix}").metadata
    assert kept.icc == SRGB
    assert kept.xmp == XMP
    assert kept.exif is not None
    assert read_directory(kept.exif) == read_directory(exif(1, order))
    if suffix != ".webp":
        assert kept.dpi == pytest.approx((300, 150), abs=0.02)
    with Image.open(tmp_path / f"a{suffix}") as seen:
        assert seen.info["icc_profile"] == SRGB
        assert seen.getexif()[271] == "Maker"
        assert seen.getexif().get_ifd(EXIF_IFD)[33434] == pytest.approx(1 / 60)
        assert seen.getexif().get_ifd(GPS_IFD)[1] == "N"


def test_png_text_and_jpeg_captions_are_kept(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "Rain")
    text.add_itxt("Author", "Łukasz", zip=True)
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "a.png", pnginfo=text)
    write_photo(tmp_path / "b.png", read_photo(tmp_path / "a.png"))
    assert Image.open(tmp_path / "b.png").info == {"Title": "Rain", "Author": "Łukasz"}
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0a\x1c\x02\x78\0\x05rainy"
    photo = Photo(noise(8, 8, 3), metadata=Metadata(jpeg=((0xED, iptc), (0xFE, b"a comment"))))
    write_photo(tmp_path / "a.jpg", photo)
    write_photo(tmp_path / "b.jpg", read_photo(tmp_path / "a.jpg"))
    assert Image.open(tmp_path / "b.jpg").info["comment"] == b"a comment"
    assert read_photo(tmp_path / "b.jpg").metadata.jpeg == photo.metadata.jpeg


@pytest.mark.parametrize("order", ["<", ">"])
def test_thumbnail_is_dropped_and_sides_are_swapped(tmp_path: Path, order: str) -> None:
    block = exif(8, order, thumbnail=b"\xff\xd8tiny rainy picture\xff\xd9")
    write_photo(tmp_path / "a.png", Photo(noise(5, 7, 3), metadata=Metadata(block, dpi=(300, 150))))
    metadata = read_photo(tmp_path / "a.png").metadata
    assert metadata.exif is not None
    assert b"tiny rainy picture" not in metadata.exif
    inner = read_directory(metadata.exif)[EXIF_IFD]
    assert isinstance(inner, dict)
    sides = {tag: struct.unpack(order + "H", inner[tag][2])[0] for tag in (0xA002, 0xA003)}  # type: ignore[arg-type]
    assert sides == {0xA002: 5, 0xA003: 7}
    assert metadata.dpi == pytest.approx((150, 300), abs=0.02)
    parsed = Image.Exif()
    parsed.load(b"Exif\0\0" + metadata.exif)
    assert not parsed.get_ifd(1)


@pytest.mark.parametrize("broken", [b"II*\0", b"rubbish!", b"II*\0\xff\xff\xff\xff", exif()[:40]])
def test_damaged_exif_is_left_out_and_said(tmp_path: Path, broken: bytes) -> None:
    write_photo(tmp_path / "a.png", Photo(noise(5, 7, 3), metadata=Metadata(broken)))
    photo = read_photo(tmp_path / "a.png")
    assert photo.metadata.exif is None
    assert "EXIF data were left out" in photo.notes[0]
    assert np.array_equal(photo.pixels, noise(5, 7, 3))
