"""`python -m buildlight`: the same as the command `buildlight`."""

from buildlight.cli import main

if __name__ == "__main__":
    main()
