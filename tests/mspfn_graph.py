"""MSPFN's TensorFlow graph in numpy: one image at a time, `SAME` padding and transposed convolutions from scratch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GetVariable = Callable[[str, tuple[int, ...]], Array]


def margins(size: int, stride: int, kernel: int = 3) -> tuple[int, int]:
    """How much of a side `SAME` pads before and after, where a convolution reads `size` pixels."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolved(x: Array, kernel: Array, stride: int = 1) -> Array:
    """`tf.nn.conv2d(padding="SAME")` of one image `(H, W, C)` by a kernel (height, width, inputs, outputs)."""
    height, width = (-(-side // stride) for side in x.shape[:2])
    padded = np.pad(x, [margins(x.shape[0], stride, len(kernel)), margins(x.shape[1], stride, len(kernel)), (0, 0)])
    out = np.zeros((height, width, kernel.shape[3]))
    for i, j in np.ndindex(kernel.shape[:2]):
        out += padded[i : i + height * stride : stride, j : j + width * stride : stride][:height, :width] @ kernel[i, j]
    return out


def transposed(x: Array, kernel: Array, size: tuple[int, int], stride: int) -> Array:
    """`tf.nn.conv2d_transpose(padding="SAME")`: each pixel strewn where `convolved` would have read it from.

    The kernel is (height, width, outputs, inputs).
    """
    rows, columns = (margins(side, stride) for side in size)
    out = np.zeros((size[0] + sum(rows) + stride, size[1] + sum(columns) + stride, kernel.shape[2]))
    for (i, j), (row, column) in ((at, to) for at in np.ndindex(x.shape[:2]) for to in np.ndindex(kernel.shape[:2])):
        out[i * stride + row, j * stride + column] += kernel[row, column] @ x[i, j]
    return out[rows[0] : rows[0] + size[0], columns[0] : columns[0] + size[1]]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def restated(
    get: GetVariable, rainy: Array, scope: str, unit: str, channels: int, units: int, rcabs: tuple[int, int, int]
) -> Array:
    """The rain of an image `(H, W, 3)`, BGR in [-1, 1], by TensorFlow's graph; `get` gives its variables."""
    sizes = {s: (rainy.shape[0] // s, rainy.shape[1] // s) for s in (4, 2, 1)}
    mark = {4: "4", 2: "2", 1: ""}

    def prelu(x: Array, name: str) -> Array:
        return np.where(x > 0, x, get(f"{scope}/{name}/alpha", (x.shape[-1],)) * x)

    def deconv(x: Array, name: str, outputs: int, size: tuple[int, int], stride: int = 1) -> Array:
        weight = get(f"{scope}/{name}/weight", (3, 3, outputs, x.shape[-1]))
        whole = transposed(x, weight, size, stride)
        return whole if name == "rnn7" else prelu(whole, name)

    def dense(x: Array, name: str, outputs: int, side: int) -> Array:
        kernel = get(f"{scope}/{name}/kernel", (side, side, x.shape[-1], outputs))
        return convolved(x, kernel) + get(f"{scope}/{name}/bias", (outputs,))

    def rcab(x: Array, name: str) -> Array:
        f = dense(prelu(dense(x, f"{name}/conv2d", channels, 3), f"{name}/conv2d"), f"{name}/conv2d_1", channels, 3)
        narrow = prelu(dense(f.mean((0, 1), keepdims=True), f"{name}/conv2d_2", channels // 4, 1), f"{name}/conv2d_2")
        return x + f * sigmoid(dense(narrow, f"{name}/conv2d_3", channels, 1))

    def lstm(x: Array, s: int) -> Array:
        hidden, name = channels * 4 // s, f"{scope}/residual_memory/lstm_group{mark[s]}/convLSTM/LSTM_conv"
        seen = np.concatenate([x, np.zeros((*x.shape[:2], hidden))], -1)
        gates = convolved(seen, get(f"{name}/weights", (3, 3, seen.shape[-1], 4 * hidden)))
        i, j, f, o = np.split(gates + get(f"{name}/biases", (4 * hidden,)), 4, -1)
        cell = np.zeros_like(i) * sigmoid(f + 1) + sigmoid(i) * np.tanh(j)
        return np.tanh(cell) * sigmoid(o)

    def remember(x: Array, s: int) -> Array:
        name = f"residual_memory/rain{mark[s]}_res"
        return deconv(lstm(deconv(x, f"{name}1", channels // 2, sizes[s]), s), f"{name}2", channels, sizes[s])

    def refine(x: Array, s: int, n: int, count: int) -> Array:
        name = f"{unit}{mark[s]}_{n}"
        down = f"{name}/down{mark[s]}_{n + 1}"
        short = prelu(convolved(x, get(f"{scope}/{down}/weight", (3, 3, channels, channels)), 2), down)
        long = short
        for m in range(count):
            long = rcab(long, f"{name}/group_{n + 1}_RCAB{m + 1}")
        return deconv(np.concatenate([short, long], -1), f"{name}/up_{n + 1}", channels, sizes[s], 2)

    small = {s: rainy.reshape(sizes[s][0], s, sizes[s][1], s, 3).mean((1, 3)) for s in sizes}
    e4, e2, e1 = (deconv(small[s], f"rnn{s}", channels, sizes[s]) for s in sizes)
    m4 = e4 + remember(e4, 4)
    u42 = deconv(m4, "residual_memory/upRMM4_2", channels, sizes[2], 2)
    m2 = e2 + remember(e2 + u42, 2)
    u41 = deconv(u42, "residual_memory/upRMM4_1", channels, sizes[1], 2)
    m1 = e1 + remember(e1 + u41 + deconv(m2, "residual_memory/upRMM2_1", channels, sizes[1], 2), 1)
    r4, r2, r1 = m4, m2, m1
    for n in range(units):
        r4 = r4 + refine(r4, 4, n, rcabs[0])
        v42 = deconv(r4, f"{unit}2_{n}/up{unit}4_2_{n}", channels, sizes[2], 2)
        r2 = r2 + refine(r2 + v42, 2, n, rcabs[1])
        v41 = deconv(v42, f"{unit}_{n}/up{unit}4to1_{n}", channels, sizes[1], 2)
        v21 = deconv(r2, f"{unit}_{n}/up{unit}2to1_{n}", channels, sizes[1], 2)
        r1 = r1 + refine(r1 + v41 + v21, 1, n, rcabs[2])
    q4, q2, q1 = (
        deconv(np.concatenate(pair, -1), f"rnn_recon{mark[s]}", channels, sizes[s])
        for s, pair in ((4, (r4, m4)), (2, (r2, m2)), (1, (r1, m1)))
    )
    w = deconv(q4, "up4_2", channels, sizes[2], 2)
    w = deconv(np.concatenate([w, q2], -1), "up2_1", channels, sizes[1], 2)
    w = deconv(np.concatenate([q1, w], -1), "rnn5", channels // 2, sizes[1])
    return deconv(w, "rnn7", 3, sizes[1])
