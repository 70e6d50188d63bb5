"""`python -m draftbench`, the same as the command."""

import sys

from draftbench.bench import main

sys.exit(main())
