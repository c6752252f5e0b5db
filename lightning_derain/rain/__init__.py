"""The rain models of the papers, formula = docstring, batched on the device, seeded."""
