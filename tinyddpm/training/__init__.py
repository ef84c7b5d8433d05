"""Training: the step and the loop, on a CPU (``step``) and on a GPU (``device_step``); the run
directory and its checkpoints; the trained model that they leave; and what a run will take.
"""
