"""The course: every concept with its equation, its code, its figure or table, and a live check.

``independent`` holds the arithmetic that the checks rest on, and imports nothing of the package.
"""
