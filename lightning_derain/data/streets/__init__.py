"""Street scenes with the labels of Cityscapes, drawn at random: `scene.draw_street` makes one."""
