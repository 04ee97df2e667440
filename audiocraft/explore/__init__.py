"""What a musician does with a trained model."""
