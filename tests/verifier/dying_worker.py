"""A worker of `verifier.bulk` that dies on bundles named die*, hangs on hang*, and dies once on once*."""

import os
import time
from pathlib import Path

from verifier import bulk_worker
from verifier.judge import Judge, Judgement

_judge = Judge.judge


def judge(self: Judge, path: Path) -> Judgement:
    mark = path.with_suffix(".mark")
    if path.name.startswith("die") or (path.name.startswith("once") and not mark.exists()):
        mark.touch()
        os._exit(9)
    if path.name.startswith("hang"):
        time.sleep(60)
    return _judge(self, path)


Judge.judge = judge  # type: ignore[method-assign]  # the one purpose of this program
bulk_worker.main()
