"""Pixels: decoding, the breast mask, preparation for the network, quality checks."""
