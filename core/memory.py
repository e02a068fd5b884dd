"""What a long-running process does about its memory."""

import gc


def settle() -> None:
    """Leave what was loaded so far out of the garbage collector's sight; call it once, when everything is imported.

    Modules and their classes never become garbage, and walking all of them stops the event loop for a tenth of a second
    each time (`gc.freeze` in Python's own documentation).
    """
    gc.collect()
    gc.freeze()
