"""The pictures of the study."""
