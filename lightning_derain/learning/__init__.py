"""What runs around a training: checkpoints that are whole, checks before the first step, resumption, legs."""
