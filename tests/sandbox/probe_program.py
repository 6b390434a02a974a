"""Runs all probes at a level and prints their results as JSON: ``python probe_program.py LEVEL``."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.probes.run import run_probes


async def main() -> None:
    results = await run_probes(open_launcher(sys.argv[1]))
    print(json.dumps({"user": os.getuid(), "results": [[r.name, r.verdict, r.detail] for r in results]}))


if __name__ == "__main__":
    asyncio.run(main())
