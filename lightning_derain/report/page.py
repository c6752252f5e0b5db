"""A report as HTML: figures with sliders, a table of scores, and how it was made."""

from __future__ import annotations

import base64
import hashlib
import shlex
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_derain import __version__
from lightning_derain.images import Photo, shown, unit
from lightning_derain.images.writing import encode_image
from lightning_derain.provenance import commit
from lightning_derain.report.scores import Scores, mean

ERROR_GAIN = 5
LABELS = {"derained": "derained", "rainy": "rainy", "clean": "clean", "error": f"error × {ERROR_GAIN}"}
"""In the order in which the images lie on one another."""
BUTTONS = ("clean", "error")
FIGURES = {"psnr": ("PSNR", "", 2, " dB"), "ssim": ("SSIM", "SSIM ", 4, ""), "niqe": ("NIQE", "NIQE ", 3, "")}
"""Of each score: heading, what stands before it, decimals, unit."""


@dataclass(frozen=True)
class Facts:
    """How a report was made: options of its command, the checkpoint, the protocol of its scores."""

    options: Mapping[str, Path | None]
    checkpoint: Path | None
    protocol: str


def render(title: str, figures: Sequence[str], scores: Mapping[str, Scores | None], facts: Facts) -> str:
    """The whole page.

    Args:
        title: the heading, as plain text.
        figures: what `draw_figure` gave.
        scores: by the name of the image, None where they are unknown.
        facts: how the report was made.
    """
    known = {name: score for name, score in scores.items() if score}
    template = string.Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        summary=_summary(len(scores), known, facts.protocol),
        figures="\n".join(figures),
        table=_table(known, facts.protocol) if known else "",
        facts=_facts(facts, scored=any("psnr" in score for score in known.values())),
    )


def draw_figure(name: str, layers: Mapping[str, Photo], scores: Scores | None, max_side: int) -> str:
    """The images of one name over one another: a slider if `rainy` is there, buttons if `clean` is there."""
    label = escape(shown(name))
    uris = _data_uris(layers, max_side)
    images = "".join(
        f'<div class="layer {key}"><img src="{uris[key]}" alt="{label}, {text}"><span class="tag">{text}</span></div>'
        for key, text in LABELS.items()
        if key in uris
    )
    slider = (
        '<div class="handle"></div><input type="range" min="0" max="100" step="any" value="50" '
        f'aria-label="{label}: rainy on the left, derained on the right">'
    )
    buttons = "".join(
        f'<button type="button" value="{key}" aria-pressed="false">{LABELS[key]}</button>'
        for key in BUTTONS
        if key in uris
    )
    height, width = layers["derained"].pixels.shape[:2]
    return (
        f'<figure class="{"split" if "rainy" in uris else "single"}" style="--p: 50%">'
        f'<div class="frame" style="aspect-ratio: {width} / {height}; --ratio: {width / height:.4f}">'
        f"{images}{slider if 'rainy' in uris else ''}</div><figcaption><b>{label}</b>"
        f"<span>{_gain(scores) if scores else ''}</span><div>{buttons}</div></figcaption></figure>"
    )


def _data_uris(layers: Mapping[str, Photo], max_side: int) -> dict[str, str]:
    units = {key: unit(photo.pixels) for key, photo in layers.items()}
    uris = {key: data_uri(values, max_side, layers[key].metadata.icc) for key, values in units.items()}
    if "clean" in units:
        uris["error"] = data_uri(np.abs(units["derained"] - units["clean"]) * ERROR_GAIN, max_side, None)
    return uris


def data_uri(values: NDArray[np.float32], max_side: int, icc: bytes | None) -> str:
    """A JPEG of quality 90, of full chroma resolution because streaks are thin.

    Args:
        values: RGB `(H, W, 3)` in [0, 1].
        max_side: what is longer is reduced to this many pixels.
        icc: colour profile.
    """
    image = Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    encoded = encode_image(image, "JPEG", quality=90, subsampling=0, icc_profile=icc)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"


def _gain(scores: Scores) -> str:
    parts = []
    for key in _keys(scores):
        _, label, digits, unit = FIGURES[key]
        before = f"{scores[f'input_{key}']:.{digits}f} → " if f"input_{key}" in scores else ""
        parts.append(f"{label}{before}{scores[key]:.{digits}f}{unit}")
    return ", ".join(parts)


def _keys(scores: Scores) -> list[str]:
    return [key for key in FIGURES if key in scores]


def _summary(count: int, scores: Mapping[str, Scores], protocol: str) -> str:
    images = f"{count} image{'s' if count != 1 else ''}"
    if not scores:
        return images
    scored = "" if len(scores) == count else f" of {len(scores)}"
    average = mean(scores.values())
    under = f" (protocol {escape(protocol)})" if "psnr" in average else ""
    return f"{images}; mean{scored} {_gain(average)}{under}"


def _table(scores: Mapping[str, Scores], protocol: str) -> str:
    average = mean(scores.values())
    names = [FIGURES[key][0] for key in _keys(average)]
    gain = "gain" if "psnr" in average else "change"
    head = "<th>image</th>" + "".join(f"<th>{name} in</th><th>{name} out</th><th>{gain}</th>" for name in names)
    body = "\n".join(_row(name, score) for name, score in scores.items())
    what = f"PSNR in dB and SSIM under the protocol <code>{escape(protocol)}</code>."
    if "niqe" in average:
        what = "NIQE, which needs no clean image; lower is better."
    return (
        f"<h2>Scores</h2><p>{what}</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>\n'
        f"<tfoot>{_row('mean', average)}</tfoot></table></div>"
    )


def _row(name: str, scores: Scores) -> str:
    cells = [cell for key in _keys(scores) for cell in _cells(scores.get(f"input_{key}"), scores[key], FIGURES[key][2])]
    return f"<tr><th>{escape(shown(name))}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _cells(before: float | None, after: float, digits: int) -> tuple[str, str, str]:
    if before is None:
        return "–", f"{after:.{digits}f}", "–"
    return f"{before:.{digits}f}", f"{after:.{digits}f}", f"{after - before:+.{digits}f}".replace("-", "−")


def _facts(facts: Facts, scored: bool) -> str:
    options = {**facts.options, "checkpoint": facts.checkpoint}
    arguments = [part for name, path in options.items() if path for part in (f"--{name}", str(path))]
    shown = {"program": f"lightning-derain {__version__}"}
    if (revision := commit()) != "unknown":
        shown["commit"] = revision
    if facts.checkpoint:
        digest = hashlib.sha256(facts.checkpoint.read_bytes()).hexdigest()
        shown["checkpoint"] = f"{facts.checkpoint} (sha256 {digest[:12]}…)"
    if scored:
        shown["protocol"] = facts.protocol
    shown["this page"] = shlex.join(["python", "-m", "lightning_derain", "report", *arguments])
    return "\n".join(f"<dt>{name}</dt><dd><code>{escape(text)}</code></dd>" for name, text in shown.items())
