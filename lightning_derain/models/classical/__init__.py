"""Methods that solve a problem for each image instead of learning from many: there is nothing to train."""
