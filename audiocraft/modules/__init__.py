"""Layers that the models are built of: convolutions, LSTM, SEANet, transformer, patterns, conditioners."""
