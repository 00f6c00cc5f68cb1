"""Work that is killed in a process of its own, when a file of it gets its name."""

import os
import signal


def killed_at(moment, work):
    """Do the work in a fork that SIGKILL ends before its file number ``moment`` gets its name."""
    child = os.fork()
    if child == 0:
        replace, n_replaced = os.replace, 0

        def killing(*names):
            nonlocal n_replaced
            n_replaced += 1
            if n_replaced == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*names)

        os.replace = killing
        try:
            work()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
