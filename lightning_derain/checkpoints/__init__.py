"""The door for foreign files: what a checkpoint holds, as tensors and plain values; nothing is built or called.

PyTorch's files (`torch_files.py`, with `pickles.py` and `sketches.py`), those of safetensors, TensorFlow, Caffe and
MATLAB. What a file declares of its sizes is checked against what it has before memory is asked for.
"""

from lightning_derain.checkpoints.door import Content, read_checkpoint
from lightning_derain.checkpoints.sizes import tensors_of

__all__ = ["Content", "read_checkpoint", "tensors_of"]
