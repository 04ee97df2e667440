"""Models as ONNX graphs, and the player that plays them without torch."""
