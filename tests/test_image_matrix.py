"""One file is the same picture in every verb: formats, depths, orientations, alpha, grey and colour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from lightning_derain.data.examine import examine
from lightning_derain.data.overlap import _small
from lightning_derain.data.sources import Pair, read_layers
from lightning_derain.errors import UserError
from lightning_derain.images import IMAGE_SUFFIXES, image_size, read_kind, read_photo
from lightning_derain.images.containers import encode_png
from lightning_derain.images.listing import left_out, left_out_line
from lightning_derain.images.writing import result_name
from lightning_derain.inference import derain_photo
from lightning_derain.niqe import _photographs
from lightning_derain.report import Entry
from lightning_derain.report import read_layers as read_report
from lightning_derain.score import read_tensor

Array = NDArray[Any]

STORED: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
"""How an upright image is stored under each orientation (EXIF 2.32, tag 0x0112)."""

KINDS = [
    *(f"png {kind}" for kind in ("rgb8", "grey8", "rgba8", "la8", "palette", "bits1", "rgb16", "grey16", "rgba16")),
    *(f"tif {kind}" for kind in ("rgb8", "grey8", "rgba8", "palette", "bits1", "rgb16", "grey16", "cmyk", "lzw")),
    *(f"webp {kind}" for kind in ("rgb8", "rgba8")),
    *(f"jpg {kind}" for kind in ("rgb8", "grey8", "cmyk")),
    *(f"bmp {kind}" for kind in ("rgb8", "grey8", "palette", "bits1")),
]


def upright(kind: str) -> Array:
    """Another picture for each kind: `(16, 24, 3)`, or `(16, 24)` where it is grey."""
    deep = kind.endswith("16")
    blocks = np.random.default_rng(len(kind)).integers(20, 60_000 if deep else 230, (4, 6, 3))
    image = np.kron(blocks, np.ones((4, 4, 1))).astype(np.uint16 if deep else np.uint8)
    if kind == "bits1":
        return np.where(image[..., 0] > 120, 255, 0).astype(np.uint8)
    if kind == "palette":
        return (image // 64 * 80).astype(np.uint8)
    return np.ascontiguousarray(image[..., 0]) if kind.startswith(("grey", "la")) else image


def save(path: Path, format: str, kind: str, pixels: Array, orientation: int) -> None:
    alpha = np.full(pixels.shape[:2], 77, pixels.dtype)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind.endswith("16"):
        stack = pixels if pixels.ndim == 3 else pixels[..., None]
        stack = np.dstack([stack, alpha]) if kind == "rgba16" else stack
        if format == "png":
            path.write_bytes(encode_png(stack, [(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))]))
        else:
            kinds: dict[str, Any] = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"}
            tifffile.imwrite(path, pixels, extratags=[(274, "H", 1, orientation, True)], metadata=None, **kinds)
        return
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if "a8" in kind:
        image.putalpha(77)
    if kind == "palette":
        image = image.quantize(64, dither=Image.Dither.NONE)
        assert np.array_equal(np.asarray(image.convert("RGB")), pixels)
    modes = {"bits1": "1", "cmyk": "CMYK"}
    image = image.convert(modes[kind]) if kind in modes else image
    options: dict[str, Any] = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True, "exact": True}}
    chosen = {**options.get(format, {}), **({} if format == "bmp" else {"exif": exif.tobytes()})}
    image.save(path, **chosen, **({"compression": "tiff_lzw"} if kind == "lzw" else {}))


def in_colours(pixels: Array) -> Array:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


@pytest.mark.parametrize("name", KINDS)
def test_every_verb_sees_the_same_picture(name: str, tmp_path: Path) -> None:
    format, kind = name.split()
    wanted = in_colours(upright(kind))
    deep = wanted.dtype == np.uint16
    # Of what is not stored in RGB, or with loss, the values are those that the reader gives, alike in all verbs.
    slack = 3 if format == "jpg" or kind == "cmyk" else 0
    for orientation in STORED if format != "bmp" else (1,):
        path = tmp_path / f"{orientation}.{format}"
        save(path, format, kind, STORED[orientation](upright(kind)), orientation)
        trained = read_layers(Pair("a", {"rainy": path}))["rainy"]  # fit, test, predict, data verify and stats
        eight = np.rint(wanted / 257).astype(np.uint8) if deep else wanted
        assert trained.dtype == np.uint8
        assert trained.flags.writeable
        assert np.abs(trained.astype(int) - eight).max() <= slack, (name, orientation)

        scored = read_tensor(path)[0].permute(1, 2, 0).numpy()  # score, NIQE
        full = wanted / (65535 if deep else 255)
        assert np.abs(scored - full).max() <= (slack or 1e-4) / 255, (name, orientation)
        if not deep:
            assert np.array_equal(scored, (trained / 255).astype(np.float32)), (name, orientation)
        else:
            assert np.abs(scored * 255 - trained).max() <= 0.5 + 1e-4

        photo = derain_photo(read_photo(path), UNCHANGED)
        assert np.allclose(in_colours(photo.pixels) / full_scale(photo.pixels), scored, atol=1e-6), (name, orientation)
        assert (photo.alpha is not None) == ("a8" in kind or kind == "rgba16")
        reported = read_report(Entry("a", path))["derained"]
        assert np.array_equal(reported.pixels, photo.pixels)
        assert image_size(path) == (24, 16)
        _, shape = _small(path)  # type: ignore[misc]
        assert abs(shape - np.log(24 / 16)) < 1e-6


def _unchanged(pixels: Array, progress: object) -> Array:
    return (pixels / full_scale(pixels)).astype(np.float32)


UNCHANGED: Any = _unchanged
"""In place of a network."""


def full_scale(pixels: Array) -> int:
    return int(np.iinfo(pixels.dtype).max)


def test_photographs_of_sixteen_bit_teach_niqe_what_score_sees(tmp_path: Path) -> None:
    for orientation in (1, 6):
        save(tmp_path / f"{orientation}.png", "png", "rgb16", STORED[orientation](upright("rgb16")), orientation)
    for path, image in zip(sorted(tmp_path.iterdir()), _photographs(tmp_path), strict=True):
        assert np.array_equal(image, read_tensor(path))


def test_a_grey_file_of_sixteen_bit_is_no_longer_white(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 30_000, np.uint16)).save(tmp_path / "a.png")
    assert (read_layers(Pair("a", {"clean": tmp_path / "a.png"}))["clean"] == 117).all()
    assert read_kind(tmp_path / "a.png").mode == "L;16"
    look = examine(Pair("a", {"clean": tmp_path / "a.png"}), "test")
    assert (look.grey == 117).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_layers_of_one_sample_are_turned_alike(orientation: int, tmp_path: Path) -> None:
    turn = STORED[orientation]
    numbers = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24) % 19
    for name, pixels in (
        ("rainy", upright("rgb8")),
        ("labels", numbers),
        ("depth", numbers * 9),
        ("mask", numbers * 9),
    ):
        save(tmp_path / f"{name}.png", "png", "rgb8", turn(pixels), orientation)
        save(tmp_path / f"{name}.tif", "tif", "rgb8", turn(pixels), orientation)
    for suffix in ("png", "tif"):
        files = {name: tmp_path / f"{name}.{suffix}" for name in ("rainy", "labels", "depth", "mask")}
        layers = read_layers(Pair("a", files))
        assert np.array_equal(layers["rainy"], upright("rgb8"))
        assert np.array_equal(layers["labels"], numbers)
        assert np.array_equal(layers["depth"], numbers * 9)
        assert np.array_equal(layers["mask"], np.where(numbers * 9 > 127, 255, 0))


def test_masks_of_any_depth_and_palettes_are_black_and_white(tmp_path: Path) -> None:
    wet = np.kron(np.eye(4), np.ones((4, 4))) > 0
    grey = np.where(wet, 255, 0).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).convert("1").save(tmp_path / "bits1.png")
    Image.fromarray(np.dstack([grey] * 3)).quantize(2).save(tmp_path / "palette.png")
    Image.fromarray(np.where(wet, 65_535, 20_000).astype(np.uint16)).save(tmp_path / "deep.png")
    for name in ("grey", "bits1", "palette", "deep"):
        assert np.array_equal(read_layers(Pair("a", {"mask": tmp_path / f"{name}.png"}))["mask"], grey), name


def test_label_maps_keep_their_numbers(tmp_path: Path) -> None:
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4)
    Image.fromarray(numbers).save(tmp_path / "grey.png")
    palette = Image.fromarray(numbers)
    palette.putpalette(np.random.default_rng(0).integers(0, 255, 768, np.uint8).tobytes())
    palette.save(tmp_path / "palette.png", bits=4)
    Image.fromarray(numbers.astype(np.uint16)).save(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "deep.tif", numbers.astype(np.uint16), photometric="minisblack")
    tifffile.imwrite(tmp_path / "grey.tif", numbers, photometric="minisblack")
    for name in ("grey.png", "palette.png", "deep.png", "grey.tif", "deep.tif"):
        assert np.array_equal(read_layers(Pair("a", {"labels": tmp_path / name}))["labels"], numbers), name
    Image.fromarray(numbers % 2 > 0).save(tmp_path / "bits1.png")
    assert np.array_equal(read_layers(Pair("a", {"labels": tmp_path / "bits1.png"}))["labels"], numbers % 2)


def test_depth_of_sixteen_bit_is_a_share_of_the_whole(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 32_768, np.uint16)).save(tmp_path / "a.png")
    depth = read_layers(Pair("a", {"depth": tmp_path / "a.png"}))["depth"]
    assert depth.dtype == np.float32
    assert np.allclose(depth, 0.5, atol=1e-4)


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_heic_and_avif_are_read_upright_where_their_decoders_are_there(suffix: str, tmp_path: Path) -> None:
    if f".{suffix}" not in IMAGE_SUFFIXES:
        pytest.skip(f"nothing here reads {suffix}")
    if suffix == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    wanted = np.kron(np.arange(6).reshape(2, 3)[..., None], np.ones((8, 8, 3))).astype(np.uint8) * 40
    for orientation, store in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        Image.fromarray(np.ascontiguousarray(store(wanted))).save(path, quality=95, exif=exif.tobytes())
        photo = read_photo(path)
        assert np.abs(photo.pixels.astype(int) - wanted).mean() < 4, orientation
        assert np.array_equal(read_layers(Pair("a", {"rainy": path}))["rainy"], photo.pixels)
        assert image_size(path) == (24, 16)
        assert result_name(path.name) == f"{orientation}.png"


def test_heic_without_its_decoder_is_said_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_derain.images.header.HAS_HEIF", False)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(UserError, match=r"a\.heic .*pip install 'lightning-derain\[heif\]'"):
        read_photo(tmp_path / "a.heic")
    if ".heic" not in IMAGE_SUFFIXES:
        said = left_out_line(left_out(tmp_path))
        assert "pillow-heif" in said
        assert ".heic 1" in said
