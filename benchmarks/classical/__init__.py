"""The classical methods as one writes them down from their formulas: NumPy, float64, one image at a time."""
