"""`python -m tidegate` and `tidegate`: gevent patches the standard library before anything else is loaded."""

from gevent import monkey

monkey.patch_all()

from tidegate.cli import main  # noqa: E402  (after the patch)

if __name__ == "__main__":
    main()
