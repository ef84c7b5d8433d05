"""How fast, how large, and beside what: the measurements of ``tinyddpm bench``."""
