"""Streak layers: drops that fall while the shutter is open, drawn on the device from one seed a sample.

A sample's streaks are a function of its seed and of the image size: not of the batch it stands in, nor of the device.
Drops of lines come from CPU generators, one a sample; noise, which has a number for every pixel, from a hash of the
pixel's place that is computed on the device. Streaks are drawn as convolutions, by FFT, on a canvas
that wraps around; the canvas is at least as large as the longest streak.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_derain.errors import UserError

NOISE_ANGLES = (0.0, 15.0, -15.0, 30.0, -30.0, 40.0, -40.0)
"""IADN's seven directions, in degrees from the vertical (Sec. III-D, Dataset)."""

FFT_NOISE = 1e-5
"""A convolution by FFT leaves some 1e-7 where nothing fell: whatever is below this counts as no rain."""


def seeded_generator(seed: int, stream: int) -> torch.Generator:
    """A CPU generator for one purpose (`stream`) of one sample (`seed`).

    torch's CPU generator uses the low 32 bits of its seed only, so that seeds which differ above would coincide: both
    numbers are mixed first, by splitmix64's finaliser.
    """
    mixed = (seed + (stream + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return torch.Generator().manual_seed((mixed ^ (mixed >> 31)) & 0xFFFFFFFF)


def white_noise(size: tuple[int, int], seeds: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Normal noise of mean 0 and deviation 1, drawn on the device, the same on each up to rounding.

    Each pixel's number is counted on from its sample's start by its sample's odd stride, mixed by a 32-bit finaliser
    (C. Wellons' lowbias32 as far as it reaches the 23 upper bits), and put through the normal distribution's quantile
    function.

    Args:
        size: height and width.
        seeds: one int64 a sample, `(B,)`, on the CPU.
        device: where to draw.

    Returns:
        `(B, H, W)` float32, within 5.3 deviations.
    """
    places = torch.arange(size[0] * size[1], dtype=torch.int32, device=device).view(size)
    starts = [torch.randint(-(2**31), 2**31, (2,), generator=seeded_generator(int(seed), stream=1)) for seed in seeds]
    start, stride = torch.stack(starts).to(device, torch.int32)[..., None, None].unbind(1)
    bits = places * (stride | 1) + start
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        bits ^= (bits >> shift).bitwise_and_(2 ** (32 - shift) - 1)
        bits *= factor
    uniform = (bits >> 9).bitwise_and_(2**23 - 1).float().add_(0.5)
    return uniform.div_(2**22).sub_(1).erfinv_().mul_(2**0.5)


def fast_length(length: int) -> int:
    """The smallest number from `length` on that has no prime factor above 5: an FFT of that length is quick."""
    rest = length
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return length if rest == 1 else fast_length(length + 1)


def canvas_size(size: tuple[int, int], kernel: int) -> tuple[int, int]:
    """Height and width of the wrapping canvas for an image of `size` and square kernels of side `kernel`."""
    return fast_length(max(size[0], kernel)), fast_length(max(size[1], kernel))


def line_kernels(angle: Tensor, length: Tensor, width: Tensor, radius: int, softness: float, taper: float) -> Tensor:
    r"""Straight streaks as images: bars with soft edges and ends, 1 inside.

    .. math:: k(u, v) = b_{L, \max(s, \tau L)}(u)\, b_{w, s}(v), \quad
        b_{a, e}(t) = \min(1, a/e, ((a + e)/2 - |t|)_+ / e)

    `u` runs along the streak and `v` across it; `b` is a box of size `a` blurred by a box of size `e`, so the sum over
    `k` is `L w` however soft it is, and a streak thinner than `s` is fainter.

    Args:
        angle: tilt from the vertical in degrees, `(B,)`; positive: the lower end lies further right.
        length: `L` in pixels, `(B,)`.
        width: `w` in pixels, `(B,)`.
        radius: the images have `2 radius + 1` pixels a side.
        softness: `s` in pixels; 1 is a sharp, anti-aliased edge.
        taper: share of the length over which a streak fades at both ends together, in [0, 1].

    Returns:
        `(B, 2 radius + 1, 2 radius + 1)`.
    """
    axis = torch.arange(-radius, radius + 1, dtype=torch.float32)
    y, x = axis[:, None], axis[None, :]
    angle, length, width = (value[:, None, None] for value in (torch.deg2rad(angle), length, width))
    along, across = x * angle.sin() + y * angle.cos(), x * angle.cos() - y * angle.sin()
    ends, edges = (taper * length).clamp(min=softness), torch.full_like(width, softness)
    return _soft_box(along, length, ends) * _soft_box(across, width, edges)


def _soft_box(distance: Tensor, extent: Tensor, edge: Tensor) -> Tensor:
    slope = ((extent + edge) / 2 - distance.abs()) / edge
    box: Tensor = torch.minimum(slope.clamp(0, 1), extent / edge)
    return box


def kernel_radius(longest: float, softness: float = 1.0, taper: float = 0.0) -> int:
    """How far from its middle a streak can reach whose length and width have a diagonal of `longest`, in pixels."""
    return int((longest + max(softness, taper * longest) + softness) / 2) + 1


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Spectrum of the circular convolution of images `(B, H, W)` with kernels `(B, K, K)`, `K` at most `H` and `W`.

    The result is shifted by the kernels' radius, which stationary rain does not notice.
    """
    size = (images.shape[-2], images.shape[-1])
    spectrum: Tensor = torch.fft.rfft2(images) * torch.fft.rfft2(kernels, s=size)
    return spectrum


@torch.no_grad()
def line_streaks(
    size: tuple[int, int],
    seeds: Tensor,
    *,
    density: Tensor | float,
    length: Tensor | float,
    width: Tensor | float = 1.5,
    angle: Tensor | float = 0.0,
    brightness: Tensor | float = 1.0,
    gain: Tensor | float = 0.5,
    visible: Tensor | None = None,
    faintest: float = 1.0,
    softness: float = 1.0,
    taper: float = 0.0,
    longest: float | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    r"""Sharp line streaks in one or several layers: JORDER-E's second way of synthesis (section 6, Datasets).

    .. math:: S = \sum_t v_t\, g \min\big(1, \sum_j n_{tj} * b_{tj} k_{tj}\big)

    `t` counts the layers, each with its own direction (Eq. 3); within a layer, groups `j` of slightly different angle,
    length and width are its "small variation"; `v` and `b` are 1 in that paper. `n` is a map of drops: their number is
    Poisson with mean `density / (length width)` a pixel, and the brightness of each is `faintest ** U`, `U` uniform in
    [0, 1]. `k` is `line_kernels`. Overlapping streaks of one layer do not exceed the layer's gain; layers add up.

    Args:
        size: height and width of the layer.
        seeds: one int64 a sample, `(B,)`, on the CPU.
        density: streaks that cover a pixel on average; it, `length`, `width` and `angle` are numbers or tensors that
            broadcast to `(B, layers, groups)`, on the CPU.
        length: length of a streak in pixels.
        width: width of a streak in pixels.
        angle: tilt from the vertical in degrees; positive: the lower end lies further right.
        brightness: `b`, of a group relative to the others, in [0, 1]; as `density`.
        gain: brightness of a layer's brightest streak, 0 or more; a number or a tensor `(B,)`.
        visible: `v`, the share of each layer's light that reaches the camera, `(B, layers, H, W)` in [0, 1] on the
            device; None: all of it.
        faintest: brightness of the faintest streak relative to the brightest, in (0, 1].
        softness: width of a streak's soft edge in pixels, 1 or more.
        taper: share of the length over which a streak fades at both ends together, in [0, 1].
        longest: the longest streak that the canvas must hold. By default the longest of this batch; give it where a
            sample must not depend on its batch.
        device: where to draw.

    Returns:
        `(B, 1, H, W)`, at least 0; 0 everywhere at zero density or zero gain.

    Raises:
        UserError: if a streak has no length or no width, or exceeds `longest`.
    """
    batch = len(seeds)
    density, length, width, angle, brightness = _broadcast(batch, density, length, width, angle, brightness)
    longest = _checked_longest(length, width, longest)
    radius = kernel_radius(longest, softness, taper)
    canvas = canvas_size(size, 2 * radius + 1)
    generators = [seeded_generator(int(seed), stream=1) for seed in seeds]
    total = torch.zeros(batch, *size, device=device)
    level = torch.as_tensor(gain, dtype=torch.float32).expand(batch)[:, None, None].to(device)
    for layer in range(density.shape[1]):
        drops, kernels = [], []
        for group in range(density.shape[2]):
            item = (slice(None), layer, group)
            rate = density[item] / (length[item] * width[item])
            drawn = [_drops(g, float(r), canvas, faintest) for g, r in zip(generators, rate, strict=True)]
            kernel = line_kernels(angle[item], length[item], width[item], radius, softness, taper)
            drops.append(torch.stack(drawn))
            kernels.append(kernel * brightness[item][:, None, None])
        # In one go for all groups: the host waits for the device at each copy.
        groups = zip(torch.stack(drops).to(device), torch.stack(kernels).to(device), strict=True)
        spectrum = torch.zeros((), device=device)
        for each in groups:
            spectrum = spectrum + convolve(*each)
        light = level * _without_fft_noise(torch.fft.irfft2(spectrum, s=canvas), size).clamp(max=1)
        total += light if visible is None else light * visible[:, layer]
    return total[:, None]


@torch.no_grad()
def noise_streaks(
    size: tuple[int, int],
    seeds: Tensor,
    *,
    density: Tensor | float,
    radius: Tensor | float,
    length: Tensor | float,
    angle: Tensor | float = 0.0,
    gain: Tensor | float = 0.1,
    longest: float | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    r"""Blurred-noise streaks, the photo editor's recipe that IADN follows (Sec. III-D, Dataset).

    .. math:: S = g\, \frac{k * (z - q)_+}{E (z - q)_+}, \quad z = \frac{G_r * n}{\mathrm{std}}, \quad n \sim N(0, 1)

    White noise `n` is blurred by a Gaussian of standard deviation `r`, which sets the size of the drops; its brightest
    parts, a share `density` of the pixels, are kept (`q` is that quantile of the normal distribution); motion blur by a
    line `k`, one pixel wide, draws them out.

    Args:
        size: height and width of the layer.
        seeds: one int64 a sample, `(B,)`, on the CPU.
        density: share of the noise that becomes drops, in [0, 1); it, `radius`, `length`, `angle` and `gain` are
            numbers or tensors `(B,)` on the CPU.
        radius: `r` in pixels; IADN takes 0.2, 0.4, 0.6, 0.8 and 1.
        length: length of the motion blur in pixels.
        angle: tilt from the vertical in degrees; IADN takes `NOISE_ANGLES`.
        gain: mean brightness of the layer.
        longest: the longest streak that the canvas must hold; see `line_streaks`.
        device: where to draw.

    Returns:
        `(B, 1, H, W)`, at least 0; 0 everywhere at zero density or zero gain.

    Raises:
        UserError: if a streak has no length or exceeds `longest`.
    """
    batch = len(seeds)
    density, radius, length, angle, gain = (
        torch.as_tensor(value, dtype=torch.float32).expand(batch) for value in (density, radius, length, angle, gain)
    )
    width = torch.ones(batch)
    reach = kernel_radius(_checked_longest(length, width, longest))
    canvas = canvas_size(size, 2 * reach + 1)
    quantile = torch.special.ndtri(1 - density)
    excess = torch.exp(-(quantile**2) / 2) / (2 * torch.pi) ** 0.5 - quantile * density
    scale = torch.where(density > 0, gain / excess, 0)
    blur, threshold, level = torch.stack([radius, quantile, scale]).to(device)
    drops = torch.relu(_unit_blur(white_noise(canvas, seeds, device), blur) - threshold[:, None, None])
    kernels = line_kernels(angle, length, width, reach, softness=1.0, taper=0.0) / length[:, None, None]
    drawn = torch.fft.irfft2(convolve(drops, kernels.to(device)), s=canvas)
    layer: Tensor = level[:, None, None] * _without_fft_noise(drawn, size)
    return layer[:, None]


def _broadcast(batch: int, *values: Tensor | float) -> list[Tensor]:
    tensors = [torch.as_tensor(value, dtype=torch.float32) for value in values]
    shape = sum(tensors, torch.zeros(batch, 1, 1)).shape
    return [tensor.expand(shape) for tensor in tensors]


def _checked_longest(length: Tensor, width: Tensor, longest: float | None) -> float:
    diagonal = float((length**2 + width**2).sqrt().max())
    if float(length.min()) <= 0 or float(width.min()) <= 0:
        raise UserError("A streak's length and width must be above 0 pixels; for no rain set the density to 0.")
    if longest is not None and diagonal > longest:
        raise UserError(f"A streak of {diagonal:.1f} pixels does not fit in longest={longest}; raise longest.")
    return diagonal if longest is None else longest


def _drops(generator: torch.Generator, rate: float, canvas: tuple[int, int], faintest: float) -> Tensor:
    area = canvas[0] * canvas[1]
    count = int(torch.poisson(torch.tensor(rate * area), generator=generator))
    places = torch.randint(area, (count,), generator=generator)
    brightness = faintest ** torch.rand(count, generator=generator)
    return torch.zeros(area).index_add_(0, places, brightness).view(canvas)


def _unit_blur(noise: Tensor, radius: Tensor) -> Tensor:
    """Gaussian blur of white noise `(B, H, W)`, scaled to a standard deviation of 1."""
    height, width = noise.shape[-2:]
    down, across = (_transfer(torch.fft.fftfreq(length, device=noise.device), radius) for length in (height, width))
    spectrum = torch.fft.rfft2(noise) * down[:, :, None] * across[:, None, : width // 2 + 1]
    blurred: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return blurred


def _transfer(frequency: Tensor, radius: Tensor) -> Tensor:
    """The Gaussian's `(B, n)`, scaled to a mean square of 1."""
    transfer = torch.exp(-2 * (torch.pi * radius[:, None] * frequency) ** 2)
    return transfer / transfer.square().mean(dim=-1, keepdim=True).sqrt()


def _without_fft_noise(drawn: Tensor, size: tuple[int, int]) -> Tensor:
    image: Tensor = (drawn[..., : size[0], : size[1]] - FFT_NOISE).clamp_(min=0)
    return image
