"""How good a trained model is, in numbers that can be compared: its likelihood, in bits/dim."""
