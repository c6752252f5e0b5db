"""Benchmarks: `lightning_derain.data.benchmarks` has their classes.

Nothing is imported here, so that listing and verifying data need no torch.
"""
