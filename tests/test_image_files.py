from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.errors import UserError
from lightning_derain.images import Photo, pixel_count, read_photo, write_photo
from lightning_derain.images.containers import encode_png, jpeg_segments, png_chunks

LOSSLESS = [
    *((".png", kind, grey, alpha) for kind in (np.uint8, np.uint16) for grey in (0, 1) for alpha in (0, 1)),
    *((".tif", kind, grey, alpha) for kind in (np.uint8, np.uint16) for grey in (0, 1) for alpha in (0, 1)),
    *((".bmp", np.uint8, grey, 0) for grey in (0, 1)),
    *((".webp", np.uint8, 0, alpha) for alpha in (0, 1)),
]


def noise(*shape: int, kind: Any = np.uint8) -> NDArray[np.unsignedinteger]:
    pixels: NDArray[np.unsignedinteger] = np.random.default_rng(7).integers(
        0, np.iinfo(kind).max, shape, kind, endpoint=True
    )
    return pixels


@pytest.mark.parametrize(("suffix", "kind", "grey", "alpha"), LOSSLESS)
def test_lossless_formats_keep_every_value(tmp_path: Path, suffix: str, kind: type, grey: int, alpha: int) -> None:
    pixels = noise(5, 7, kind=kind) if grey else noise(5, 7, 3, kind=kind)
    photo = Photo(pixels, noise(5, 7, kind=kind) if alpha else None)
    path = tmp_path / f"a{suffix}"
    write_photo(path, photo)
    back = read_photo(path)
    assert back.pixels.dtype == kind
    assert np.array_equal(back.pixels, photo.pixels)
    assert (back.alpha is None) == (not alpha)
    if back.alpha is not None and photo.alpha is not None:
        assert np.array_equal(back.alpha, photo.alpha)
    assert back.lossless
    assert back.notes == ()


def test_other_programs_read_what_is_written(tmp_path: Path) -> None:
    rgb, rgb16 = noise(300, 9, 3), noise(300, 9, 3, kind=np.uint16)
    for suffix in (".png", ".tif"):
        write_photo(tmp_path / f"a{suffix}", Photo(rgb))
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"a{suffix}")), rgb)
        write_photo(tmp_path / f"b{suffix}", Photo(rgb16, noise(300, 9, kind=np.uint16)))
        stored: Any = cv2.imread(str(tmp_path / f"b{suffix}"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(stored[..., 2::-1], rgb16)
        assert np.array_equal(stored[..., 3], noise(300, 9, kind=np.uint16))


@pytest.mark.parametrize("grey", [False, True])
def test_jpeg_stays_jpeg_without_subsampling(tmp_path: Path, grey: bool) -> None:
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8), (48, 64)).copy()
    write_photo(tmp_path / "a.jpg", Photo(ramp if grey else np.dstack([ramp, ramp[:, ::-1], ramp])))
    back = read_photo(tmp_path / "a.jpg")
    assert back.pixels.shape == ((48, 64) if grey else (48, 64, 3))
    assert not back.lossless
    expected = ramp if grey else np.dstack([ramp, ramp[:, ::-1], ramp])
    assert np.abs(back.pixels.astype(int) - expected).max() <= 4
    if not grey:
        frame = next(content for marker, content in jpeg_segments((tmp_path / "a.jpg").read_bytes()) if marker == 0xC0)
        assert frame[7] == 0x11  # the luma's sampling factors


def test_lossy_webp_stays_lossy(tmp_path: Path) -> None:
    Image.fromarray(noise(32, 32, 3)).save(tmp_path / "a.webp", quality=80)
    photo = read_photo(tmp_path / "a.webp")
    assert not photo.lossless
    write_photo(tmp_path / "b.webp", photo)
    assert not read_photo(tmp_path / "b.webp").lossless


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_is_scaled_to_eight(tmp_path: Path, bits: int) -> None:
    row = np.arange(8, dtype=np.uint8) % 2**bits
    packed = np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel())
    chunks = dict(png_chunks(encode_png(np.zeros((1, 1, 1), np.uint8), [])))
    chunks[b"IHDR"] = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    chunks[b"IDAT"] = zlib.compress(b"\0" + packed.tobytes())
    parts = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks.items())
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert np.array_equal(read_photo(tmp_path / "a.png").pixels[0], row * (255 // (2**bits - 1)))


@pytest.mark.parametrize(("suffix", "transparent"), [(".png", False), (".png", True), (".bmp", False), (".tif", False)])
def test_palettes_become_rgb(tmp_path: Path, suffix: str, transparent: bool) -> None:
    image = Image.fromarray(noise(6, 5) % 4, "L").convert("P")
    colours = noise(4, 3)
    image.putpalette(colours.tobytes())
    options: dict[str, Any] = {"transparency": 2} if transparent else {}
    image.save(tmp_path / f"a{suffix}", **options)
    photo = read_photo(tmp_path / f"a{suffix}")
    assert np.array_equal(photo.pixels, colours[noise(6, 5) % 4])
    assert (photo.alpha is not None) == transparent
    assert not transparent or np.array_equal(photo.alpha == 0, noise(6, 5) % 4 == 2)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("grey", [False, True])
def test_transparent_colour_of_png_becomes_alpha(tmp_path: Path, grey: bool, kind: type) -> None:
    pixels = noise(5, 7, 1 if grey else 3, kind=kind)
    (tmp_path / "a.png").write_bytes(encode_png(pixels, [(b"tRNS", pixels[2, 3].astype(">u2").tobytes())]))
    photo = read_photo(tmp_path / "a.png")
    assert photo.alpha is not None
    expected = (pixels == pixels[2, 3]).all(2)
    assert np.array_equal(photo.alpha == 0, expected)
    assert photo.alpha[~expected].min() == np.iinfo(kind).max


@pytest.mark.parametrize("icc", [None, b"no profile"])
def test_cmyk_is_converted_and_said(tmp_path: Path, icc: bytes | None) -> None:
    cmyk = Image.fromarray(np.full((16, 16, 3), (200, 30, 60), np.uint8)).convert("CMYK")
    for suffix in (".jpg", ".tif"):
        cmyk.save(tmp_path / f"a{suffix}", icc_profile=icc)
        photo = read_photo(tmp_path / f"a{suffix}")
        assert np.abs(photo.pixels.astype(int) - (200, 30, 60)).max() <= 3
        assert photo.notes == ("it was converted from CMYK to sRGB",)
        assert photo.metadata.icc is None


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", None])
def test_tiff_compressions(tmp_path: Path, compression: str | None) -> None:
    pixels = np.full((16, 16, 3), 77, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression)
    photo = read_photo(tmp_path / "a.tif")
    assert np.abs(photo.pixels.astype(int) - 77).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bit_in_all_layouts(tmp_path: Path, order: str) -> None:
    pixels = noise(5, 7, 3, kind=np.uint16)
    cv2.imwrite(str(tmp_path / "lzw.tif"), pixels[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate", byteorder=order)
    tifffile.imwrite(tmp_path / "big.tif", pixels, photometric="rgb", bigtiff=True, byteorder=order)
    for name in ("lzw", "planes", "big"):
        assert np.array_equal(read_photo(tmp_path / f"{name}.tif").pixels, pixels), name


def test_premultiplied_alpha_is_divided_out(tmp_path: Path) -> None:
    stored = np.array([[[60, 30, 0, 120], [0, 0, 0, 0], [255, 8, 9, 255]]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.tolist() == [[[128, 64, 0], [0, 0, 0], [255, 8, 9]]]
    assert photo.alpha is not None
    assert photo.alpha.tolist() == [[120, 0, 255]]


@pytest.mark.parametrize("name", ["a.png", "b.png", "a.jpg", "a.tif", "b.tif", "a.webp", "a.bmp"])
@pytest.mark.parametrize("damage", ["empty", "half", "header", "text"])
def test_damaged_files_are_said_in_a_sentence(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    kind = np.uint16 if name.startswith("b") else np.uint8
    write_photo(path, Photo(noise(64, 64, 3, kind=kind)))
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "header": data[:20], "text": b"no image"}[damage])
    with pytest.raises(UserError, match=name) as caught:
        read_photo(path)
    assert str(caught.value).endswith(".")
    assert "object at 0x" not in str(caught.value)


def test_a_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    data = bytearray(encode_png(noise(64, 64, 3, kind=np.uint16), []))
    data[200] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UserError, match="IDAT chunk is damaged"):
        read_photo(tmp_path / "a.png")


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No image at"):
        read_photo(tmp_path / "none.png")
    with pytest.raises(UserError, match="can't be read"):
        read_photo(tmp_path)
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.gif")
    with pytest.raises(UserError, match=r"a\.gif .*a GIF file"):
        read_photo(tmp_path / "a.gif")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4, 3), np.float32), photometric="rgb")
    with pytest.raises(UserError, match="float32 samples have neither 8 nor 16"):
        read_photo(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 4, 6), np.uint8), photometric="rgb", planarconfig="contig")
    with pytest.raises(UserError, match="6 channels"):
        read_photo(tmp_path / "b.tif")


def test_size_limit_is_ours_and_pillows_stays(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    write_photo(tmp_path / "a.png", Photo(np.zeros((12_000, 12_000), np.uint8)))  # 144 megapixels
    assert pixel_count(tmp_path / "a.png") == 144_000_000
    with pytest.raises(UserError, match="12000 x 12000"):
        read_photo(tmp_path / "a.png", limit=143_000_000)
    assert before == Image.MAX_IMAGE_PIXELS


def test_first_of_several_frames_is_said(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    for name in ("a.webp", "a.png", "a.tif"):
        options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        photo = read_photo(tmp_path / name)
        assert (photo.pixels == 10).all()
        assert "only the first of its 2" in photo.notes[0]


def test_a_format_that_cannot_hold_the_photo_is_refused(tmp_path: Path) -> None:
    deep, clear = Photo(noise(4, 4, 3, kind=np.uint16)), Photo(noise(4, 4), noise(4, 4))
    for photo, suffix, reason in ((deep, ".jpg", "16 bit"), (deep, ".webp", "16 bit"), (clear, ".jpg", "transparency")):
        with pytest.raises(UserError, match=reason):
            write_photo(tmp_path / f"a{suffix}", photo)
    with pytest.raises(UserError, match="choose one of"):
        write_photo(tmp_path / "a.gif", Photo(noise(4, 4)))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"old")

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_photo(tmp_path / "a.png", Photo(noise(4, 4)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.png": b"old"}


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory"):
        write_photo(tmp_path / "gone" / "a.png", Photo(noise(4, 4)))
