"""Golden values, scikit-image, and the properties that hold for every protocol."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from lightning_derain import metrics as metrics_module
from lightning_derain.errors import UserError
from lightning_derain.metrics import (
    MAX_PSNR,
    PROTOCOLS,
    DerainMetrics,
    ImageScores,
    Protocol,
    _psnr_and_ssim,
    evaluate,
    luma,
    psnr,
    reduction_factor,
    ssim,
)
from lightning_derain.models import Identity, base

# Formula images (height, width): PSNR and SSIM under each protocol, computed by scikit-image 0.26 in float64 and
# checked by direct convolution (the project's metric specification, section 5).
GOLDEN: dict[tuple[int, int], dict[str, tuple[float, float]]] = {
    (33, 47): {
        "prenet": (27.231671830, 0.389438835),
        "restormer": (27.223405770, 0.389813171),
        "basicsr": (27.231671830, 0.389438835),
        "rgb": (23.089211699, 0.181409150),
        "skimage-rgb": (23.089211699, 0.191084214),
    },
    (96, 120): {
        "prenet": (27.176144112, 0.401853773),
        "restormer": (27.171721894, 0.401529875),
        "basicsr": (27.176144112, 0.401853773),
        "rgb": (22.982128429, 0.205674808),
        "skimage-rgb": (22.982128429, 0.227378660),
    },
    (400, 420): {
        "prenet": (27.366297109, 0.969576331),
        "restormer": (27.358773700, 0.604498144),
        "basicsr": (27.366297109, 0.604874770),
        "rgb": (23.159628928, 0.394369743),
        "skimage-rgb": (23.159628928, 0.459319064),
    },
    (640, 650): {
        "prenet": (27.377970255, 0.994477559),
        "restormer": (27.371314350, 0.691886254),
        "basicsr": (27.377970255, 0.692191674),
        "rgb": (23.170075178, 0.511237425),
        "skimage-rgb": (23.170075178, 0.592174650),
    },
}
# The keys of the reference file that each protocol reproduces.
REFERENCE_KEYS = {
    "prenet": ("psnr_y_float", "ssim_y_float_autodown"),
    "restormer": ("psnr_y_uint8", "ssim_y_uint8"),
    "basicsr": ("psnr_y_float", "ssim_y_float"),
    "rgb": ("psnr_rgb", "ssim_rgb_mean_of_channels"),
    "skimage-rgb": ("psnr_rgb", "ssim_skimage_default_multichannel"),
}
each_protocol = pytest.mark.parametrize("name", PROTOCOLS)


def to_tensor(pixels: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


def formula_pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x, c = np.mgrid[:height, :width, :3]
    clean = ((x * (c + 2)) // 3 + (y * (c + 1)) // 5 + (x * y) // 97) % 256
    rain = np.clip(clean + ((x * 17 + y * 29 + c * 11 + (x // 9) * (y // 5)) % 61 - 25), 0, 255)
    return to_tensor(rain), to_tensor(clean)


def random_pair(batch: int, height: int, width: int, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Blocks with noise, both images 8-bit."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, -(-height // 8), -(-width // 8), generator=generator)
    clean = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)[..., :height, :width]
    pred = clean + noise * torch.randn(clean.shape, generator=generator)
    return tuple(image.mul(255).round().clamp(0, 255).div(255) for image in (pred, clean))  # type: ignore[return-value]


def constant(level: float, size: int = 16) -> Tensor:
    """A grey image of one level in 0..255."""
    return torch.full((1, 3, size, size), level / 255)


@each_protocol
@pytest.mark.parametrize("size", GOLDEN)
def test_golden_values_of_the_formula_images(size: tuple[int, int], name: str) -> None:
    pair = formula_pair(*size)
    expected_psnr, expected_ssim = GOLDEN[size][name]
    assert psnr(*pair, name).item() == pytest.approx(expected_psnr, abs=1e-4)
    assert ssim(*pair, name).item() == pytest.approx(expected_ssim, abs=1e-5)


def real_pair(data: Path, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    files = {
        "rain100h_1": ("rain100h/rain/1.png", "rain100h/clean/1.png"),
        "rain100l_1": ("rain100l/rain/1.png", "rain100l/clean/1.png"),
        "outdoor_rain_test1_0001": ("outdoor_rain_test1/in/im_0001_s80_a04.png", "outdoor_rain_test1/gt/im_0001.png"),
    }
    if name == "rain12_001":
        both = np.asarray(Image.open(data / "rain12/1.png").convert("RGB"))
        return both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :]
    rain, clean = (np.asarray(Image.open(data / path).convert("RGB")) for path in files[name])
    return rain, clean


@pytest.mark.parametrize("name", ["rain12_001", "rain100h_1", "rain100l_1", "outdoor_rain_test1_0001"])
def test_golden_values_of_real_pairs(name: str, shared_data: Path, shared_specs: Path) -> None:
    reference = json.loads((shared_specs / "metric_reference.json").read_text())
    entry = next(pair for pair in reference["image_pairs"] if pair["name"] == name)
    rain, clean = real_pair(shared_data, name)
    for pixels, key in ((rain, "rain"), (clean, "clean")):
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == entry[f"pixels_sha256_{key}_hwc_uint8"], "decoder"
    for protocol, scores in evaluate(to_tensor(rain), to_tensor(clean)).items():
        expected = [entry["metrics"][key] for key in REFERENCE_KEYS[protocol]]
        assert scores["psnr"].item() == pytest.approx(expected[0], abs=1e-4)
        assert scores["ssim"].item() == pytest.approx(expected[1], abs=1e-5)


def test_published_input_row_of_rain12(shared_data: Path) -> None:
    metrics = DerainMetrics(["prenet", "restormer"])
    files = sorted((shared_data / "rain12").glob("*.png"))
    assert len(files) == 12
    for path in files:
        both = np.asarray(Image.open(path).convert("RGB"))
        metrics.update(to_tensor(both[:, :481]), to_tensor(both[:, 481:]))
    means = {key: value.item() for key, value in metrics.compute().items()}
    assert (round(means["prenet/psnr"], 2), round(means["prenet/ssim"], 4)) == (30.14, 0.8555)
    assert (round(means["restormer/psnr"], 3), round(means["restormer/ssim"], 4)) == (30.137, 0.8553)


def test_luma_is_exact_on_every_colour() -> None:
    """Against integers: at most 3e-5 levels off, and almost never on the other side of a half."""
    weights = torch.tensor([65481, 128553, 24966])[:, None, None]
    green, blue = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    worst, misrounded = 0.0, 0
    for red in range(0, 256, 5):
        rgb = torch.stack((torch.full_like(green, red), green, blue))
        thousandth = (rgb * weights).sum(0)
        y = luma(rgb[None].float())[0, 0]
        worst = max(worst, (y.double() - (thousandth.double() / 255_000 + 16)).abs().max().item())
        misrounded += int(((y + 0.5).floor() != (thousandth + 127_500).div(255_000, rounding_mode="floor") + 16).sum())
    assert worst < 3e-5
    assert misrounded < 30


def test_luma_is_limited_range() -> None:
    """On grey images Y-PSNR exceeds RGB-PSNR by 20 log10(255 / 219); a full-range Y makes the two equal."""
    pred, clean = (
        image.mean(1, keepdim=True).mul(255).round().div(255).expand(-1, 3, -1, -1) for image in random_pair(2, 32, 40)
    )
    difference = psnr(pred, clean, "basicsr") - psnr(pred, clean, "rgb")
    torch.testing.assert_close(difference, torch.full((2,), 20 * math.log10(255 / 219)), atol=1e-4, rtol=0)
    assert luma(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)).flatten().tolist() == pytest.approx(
        [16, 235]
    )


def test_psnr_is_the_mean_over_images_not_pooled() -> None:
    clean = torch.cat((constant(100), constant(100)))
    pred = torch.cat((constant(101), constant(120)))
    each = [20 * math.log10(255), 20 * math.log10(255 / 20)]
    metrics = DerainMetrics(["rgb"])
    metrics.update(pred, clean)
    assert psnr(pred, clean, "rgb").tolist() == pytest.approx(each, abs=1e-4)
    assert metrics.compute()["rgb/psnr"].item() == pytest.approx(sum(each) / 2, abs=1e-4)


@each_protocol
def test_eight_bit_values_survive_quantisation(name: str) -> None:
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    clean = levels / 255
    short = clean
    for _ in range(4):
        short = short.nextafter(torch.zeros(()))
    for pred in (clean, levels.double() / 255, levels * (1 / 255), short):
        assert psnr(pred, clean, name).item() >= MAX_PSNR - 1e-3


@pytest.mark.parametrize(
    ("quantisation", "above", "expected"),
    [
        ("floor", 0.7, 100),
        ("floor", 0.999, 100),
        ("round", 0.4, 100),
        ("round", 0.5, 101),
        ("round", 0.6, 101),
        ("none", 0.5, 100.5),
    ],
)
def test_quantisation(quantisation: Any, above: float, expected: float) -> None:
    protocol = Protocol("rgb", quantisation, "wang2003")
    found = psnr(constant(100 + above), constant(90), protocol).item()
    assert found == pytest.approx(20 * math.log10(255 / (expected - 90)), abs=1e-3)


def test_the_clean_image_is_rounded_under_every_protocol() -> None:
    assert psnr(constant(100), constant(100.4), "prenet").item() == MAX_PSNR
    assert psnr(constant(101), constant(100.6), "skimage-rgb").item() >= MAX_PSNR - 1e-3


@pytest.mark.parametrize(
    ("side", "factor"), [(1, 1), (321, 1), (383, 1), (384, 2), (512, 2), (639, 2), (640, 3), (1024, 4)]
)
def test_reduction_factor_rounds_half_up(side: int, factor: int) -> None:
    assert reduction_factor(side, 2000) == reduction_factor(2000, side) == factor


@pytest.mark.parametrize("noise", [0.002, 0.02, 0.3])
def test_agrees_with_scikit_image(noise: float) -> None:
    pred, clean = random_pair(2, 61, 83, noise)
    found = evaluate(pred, clean, ["restormer", "rgb", "skimage-rgb"])
    for i, (a, b) in enumerate(zip(pred, clean, strict=True)):
        rgb = [image.permute(1, 2, 0).double().numpy() * 255 for image in (a, b)]
        y = [np.floor(image @ [65.481, 128.553, 24.966] / 255 + 16.5) for image in rgb]
        wang: Any = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        expected = {
            "restormer": (peak_signal_noise_ratio(y[1], y[0], data_range=255), structural_similarity(*y, **wang)),
            "rgb": (
                peak_signal_noise_ratio(rgb[1], rgb[0], data_range=255),
                structural_similarity(*rgb, channel_axis=2, **wang),
            ),
            "skimage-rgb": (
                peak_signal_noise_ratio(rgb[1] / 255, rgb[0] / 255, data_range=1),
                structural_similarity(rgb[0] / 255, rgb[1] / 255, channel_axis=2, data_range=1),
            ),
        }
        for name, (expected_psnr, expected_ssim) in expected.items():
            assert found[name]["psnr"][i].item() == pytest.approx(expected_psnr, abs=1e-4)
            assert found[name]["ssim"][i].item() == pytest.approx(expected_ssim, abs=1e-5)


@each_protocol
def test_a_batch_scores_as_its_images_do(name: str) -> None:
    pred, clean = random_pair(3, 40, 29)
    for metric in (psnr, ssim):
        single = torch.cat([metric(a[None], b[None], name) for a, b in zip(pred, clean, strict=True)])
        assert torch.equal(metric(pred, clean, name), single)
    scores = evaluate(pred, clean)[name]
    assert torch.equal(scores["psnr"], psnr(pred, clean, name))
    assert torch.equal(scores["ssim"], ssim(pred, clean, name))
    at_once = _psnr_and_ssim(pred, clean, PROTOCOLS[name])  # as devices other than the CPU do it
    torch.testing.assert_close(at_once, torch.stack((scores["psnr"], scores["ssim"]), 1), rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 67), st.integers(1, 67), st.sampled_from(sorted(PROTOCOLS)), st.integers(0, 10_000))
def test_properties_at_any_size(height: int, width: int, name: str, seed: int) -> None:
    pred, clean = random_pair(1, height, width, seed=seed)
    distance, similarity = psnr(pred, clean, name), ssim(pred, clean, name)
    assert 0 < distance.item() <= MAX_PSNR
    assert -1 <= similarity.item() <= 1
    assert psnr(clean, pred, name).item() == pytest.approx(distance.item(), abs=1e-3)
    assert ssim(clean, pred, name).item() == pytest.approx(similarity.item(), abs=1e-6)
    assert ssim(clean, clean, name).item() == 1
    assert psnr(clean, clean, name).item() >= MAX_PSNR - 1e-3


def test_the_window_shrinks_to_the_largest_odd_size_that_fits() -> None:
    pred, clean = random_pair(1, 6, 9)
    a, b = (image[0].permute(1, 2, 0).double().numpy() for image in (pred, clean))
    expected = structural_similarity(a, b, win_size=5, channel_axis=2, data_range=1)
    assert ssim(pred, clean, "skimage-rgb").item() == pytest.approx(expected, abs=1e-5)


def test_one_pixel_compares_means_alone() -> None:
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert ssim(constant(100, size=1), constant(150, size=1), "skimage-rgb").item() == pytest.approx(expected, abs=1e-6)


@each_protocol
def test_a_crop_is_as_if_the_images_were_smaller(name: str) -> None:
    pred, clean = random_pair(1, 40, 50)
    base = PROTOCOLS[name]
    cropped = Protocol(base.channel, base.quantisation, base.ssim, crop=5)
    inner = (pred[..., 5:-5, 5:-5], clean[..., 5:-5, 5:-5])
    assert psnr(pred, clean, cropped).item() == pytest.approx(psnr(*inner, name).item(), abs=1e-5)
    assert ssim(pred, clean, cropped).item() == pytest.approx(ssim(*inner, name).item(), abs=1e-6)
    with pytest.raises(UserError, match="crop of 20 px"):
        ssim(pred, clean, Protocol("rgb", "round", "wang2003", crop=20))


def test_autocast_changes_nothing() -> None:
    pred, clean = random_pair(1, 32, 32)
    plain = evaluate(pred, clean)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = evaluate(pred, clean)
    assert all(torch.equal(plain[name][key], mixed[name][key]) for name in PROTOCOLS for key in ("psnr", "ssim"))


def test_inputs_are_left_alone_and_a_nan_shows() -> None:
    pred, clean = random_pair(2, 20, 20)
    pred[1, 0, 3, 3] = math.nan
    before = pred.clone(), clean.clone()
    for scores in evaluate(pred, clean).values():
        for values in scores.values():
            assert torch.isfinite(values).tolist() == [True, False]
    torch.testing.assert_close((pred, clean), before, rtol=0, atol=0, equal_nan=True)


def test_mistakes_are_told_in_a_sentence() -> None:
    image = torch.rand(1, 3, 8, 8)
    with pytest.raises(UserError, match=r"same size"):
        psnr(image, torch.rand(1, 3, 8, 9), "rgb")
    with pytest.raises(UserError, match=r"same size"):
        psnr(image.expand(2, -1, -1, -1), image, "rgb")
    with pytest.raises(UserError, match=r"torch\.uint8"):
        ssim(image.mul(255).byte(), image, "rgb")
    with pytest.raises(UserError, match=r"\(3, 8, 8\)"):
        ssim(image[0], image[0], "rgb")
    with pytest.raises(UserError, match=r"did you mean 'restormer'\?"):
        psnr(image, image, "restomer")
    with pytest.raises(UserError, match=r"choose from prenet, restormer, basicsr, rgb, skimage-rgb\."):
        DerainMetrics(["rgb", "1234"])


def expected_means(pred: Tensor, clean: Tensor) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": values.double().mean().float()
        for name, scores in evaluate(pred, clean).items()
        for key, values in scores.items()
    }


def test_accumulation_over_uneven_batches_is_the_mean_over_images() -> None:
    pred, clean = random_pair(5, 24, 31)
    metrics = DerainMetrics(list(PROTOCOLS))
    for part in (slice(0, 3), slice(3, 4), slice(4, 5)):
        metrics.update(pred[part], clean[part])
    torch.testing.assert_close(metrics.compute(), expected_means(pred, clean), rtol=0, atol=1e-5)
    forward = metrics(pred[:1], clean[:1])
    torch.testing.assert_close(forward, expected_means(pred[:1], clean[:1]), rtol=0, atol=1e-5)
    assert metrics.count.item() == 6
    metrics.reset()
    metrics.update(pred, clean)
    torch.testing.assert_close(metrics.compute(), expected_means(pred, clean), rtol=0, atol=1e-5)


def test_long_sets_lose_nothing_to_rounding() -> None:
    """Plain float32 sums are 8e-5 dB off after 500 such scores."""
    pred, clean = constant(103, size=1), constant(90, size=1)
    metrics = DerainMetrics(["rgb"])
    for _ in range(500):
        metrics.update(pred, clean)
    assert metrics.compute()["rgb/psnr"].item() == pytest.approx(psnr(pred, clean, "rgb").item(), abs=5e-6)


def score_a_share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    pred, clean = random_pair(5, 24, 31)
    share = slice(0, 3) if rank == 0 else slice(3, 5)
    metrics = DerainMetrics(list(PROTOCOLS))
    metrics.update(pred[share], clean[share])
    torch.testing.assert_close(metrics.compute(), expected_means(pred, clean), rtol=0, atol=1e-5)
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, so as not to import torch twice")
def test_two_processes_agree_on_the_mean_over_all_images(tmp_path: Path) -> None:
    start_processes(score_a_share, args=(str(tmp_path),), nprocs=2, start_method="fork")


@pytest.mark.gpu
def test_a_gpu_gives_the_same_scores() -> None:
    pair = formula_pair(400, 420)
    here, there = evaluate(*pair), evaluate(*(image.cuda() for image in pair))
    for name in PROTOCOLS:
        torch.testing.assert_close(there[name]["psnr"].cpu(), here[name]["psnr"], rtol=0, atol=1e-4)
        torch.testing.assert_close(there[name]["ssim"].cpu(), here[name]["ssim"], rtol=0, atol=1e-5)


def test_a_test_scores_each_image_once_and_logs_the_mean_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []
    exact = evaluate

    def counting(pred: Tensor, target: Tensor, protocols: tuple[str, ...]) -> ImageScores:
        scored.append(len(pred))
        return exact(pred, target, protocols)

    for module in (base, metrics_module):
        monkeypatch.setattr(module, "evaluate", counting)
    model = Identity()
    rainy, clean = random_pair(3, 40, 50)
    rows = model.test_step({"name": ["a", "b", "c"], "rainy": rainy, "clean": clean}, 0)["scores"]
    assert scored == [3, 3]  # output and input
    found = model.derained_metrics.compute()
    expected = DerainMetrics(model.protocols)
    expected.update(rainy, clean)
    for name, value in expected.compute().items():
        assert found[name].item() == pytest.approx(value.item(), abs=1e-6)
        assert fmean(row[name] for row in rows) == pytest.approx(value.item(), abs=1e-5)
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    assert {"prenet/input_ssim", "rgb/psnr"} < rows[0].keys()
