"""`python -m tidegate.testing serve …`: as `tidegate serve`, in virtual time, which `clock.advance` moves."""

from gevent import monkey

monkey.patch_all()

from functools import partial  # noqa: E402  (after the patch)

import tidegate.server  # noqa: E402
from tidegate.cli import main  # noqa: E402
from tidegate.testing.clock import Time, VirtualClock  # noqa: E402

if __name__ == "__main__":
    tidegate.server.Server = partial(  # type: ignore[assignment, misc]
        tidegate.server.Server, clock=VirtualClock(), plugins={"clock": Time}
    )
    main()
