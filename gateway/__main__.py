"""`python -m gateway` is `wa-gateway`."""

import sys

from gateway.cli import main

sys.exit(main())
