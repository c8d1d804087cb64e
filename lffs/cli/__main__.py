"""``python -m lffs.cli``: the lffs command, where the package is not installed."""

import sys

from lffs.cli.main import main

sys.exit(main())
