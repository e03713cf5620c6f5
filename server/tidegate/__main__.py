"""`python -m tidegate` and `tidegate`: gevent patches the standard library before anything else is loaded."""

import sys

# What is only a client waits in plain threads, where Ctrl-C reaches whoever waits; all others may build a server.
if sys.argv[1:2] not in (["call"], ["shell"]):
    from gevent import monkey

    monkey.patch_all()

from tidegate.cli import main

if __name__ == "__main__":
    main()
