"""Playing a trained model: codes step by step, sound chunk by chunk, each from a state that the caller holds."""
