"""The command line: one file a verb, put together in ``main``. The only place that prints.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 a bug (with its traceback) or
a failed check, 2 usage or device, 3 data, 4 checkpoint, 5 not finite, 6 storage, 75 the run is
locked, 130, 143 and 129 stopped by Ctrl-C, SIGTERM and a closed terminal, training after saving.
"""
