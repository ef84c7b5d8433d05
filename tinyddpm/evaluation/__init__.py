"""How good a trained model is, in numbers that can be compared: its bits/dim, and its samples."""
