"""Methods that are not here, by some of the keys of their official networks, so that their files are called by name.

A method that gets an architecture here leaves this list for `official.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

METHODS: dict[str, frozenset[str]] = {
    "BRN": frozenset({"conv0.0.weight", "conv0_r.0.weight", "res_conv1_r.0.weight", "conv_i_r.0.weight"}),
    "DRSformer": frozenset(
        {"patch_embed.proj.weight", "encoder_level1.0.attn.attn1", "encoder_level1.0.attn.temperature"}
    ),
    "HINet": frozenset({"conv_01.weight", "conv_02.weight", "down_path_1.0.identity.weight", "sam12.conv1.weight"}),
    "MPRNet": frozenset({"shallow_feat1.0.weight", "stage1_encoder.encoder_level1.0.body.0.weight", "tail.weight"}),
    "RCDNet": frozenset({"eta1", "eta11", "xnet.resx1.0.weight", "mnet.resm1.0.weight"}),
    "Restormer": frozenset(
        {
            "patch_embed.proj.weight",
            "encoder_level1.0.attn.temperature",
            "latent.0.ffn.project_in.weight",
            "output.weight",
        }
    ),
    "SwinIR": frozenset(
        {
            "conv_first.weight",
            "layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
            "conv_after_body.weight",
        }
    ),
    "Uformer": frozenset(
        {"input_proj.proj.0.weight", "encoderlayer_0.blocks.0.norm1.weight", "output_proj.proj.0.weight"}
    ),
}
"""A method, and keys that all of its files have; of two that share keys the one with more comes first."""


def method_of(state: Iterable[str]) -> str | None:
    """The method of a state dict, which is not supported; None where it is not known."""
    found = set(state)
    return next((method for method, keys in METHODS.items() if keys <= found), None)
