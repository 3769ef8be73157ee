"""Rebuild the demo's bundle: ``python -m tools.demo_world`` in the root of the repository.

Renders the drawings, trains CLIP and two target models, aligns them, and writes ``miclip/demo/assets``. Needs the extra
``build``, npm and its registry; takes an hour on two cores. ``--atlases`` aligns the models that are there, no more:
it needs nothing but the package. After Ctrl-C the same command continues.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from miclip.cli.progress import progress_bar
from miclip.errors import MiclipError


def main() -> int:
    """Build, and print the figures of the result as JSON."""
    from tools.demo_world.build import build, realign

    parser = argparse.ArgumentParser(prog="python -m tools.demo_world", description=__doc__)
    parser.add_argument(
        "--directory", type=Path, default=Path(".demo-build"), help="Keeps packages, pixels and checkpoints."
    )
    parser.add_argument("--atlases", action="store_true", help="Make the atlases anew, and nothing else.")
    options = parser.parse_args()
    try:
        with progress_bar() as report:
            manifest = (realign if options.atlases else build)(options.directory, report)
    except KeyboardInterrupt:
        print("Stopped. Run the same command to continue.", file=sys.stderr)
        return 130
    except MiclipError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(json.dumps(manifest, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
