"""Entry point of ``python -m late_exporter``."""

import sys

from late_exporter.cli import main

sys.exit(main())
