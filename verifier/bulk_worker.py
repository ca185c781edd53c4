"""A process that verifies one bundle file after another, for `bulk`: started by it, never imported by anything.

`argv[1]` is the JSON of a `Task`. It says ``{"ready": true}``, then answers each line ``{"at": …, "path": …}`` of its
standard input with a line ``{"at": …, "verdict": {…}, "alarm": … or null}``, in order, until the input ends.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
from pathlib import Path

from verifier.bulk import MEMORY_BYTES, Task
from verifier.judge import Judge
from verifier.policy import Policy
from verifier.statement import canonical


def main() -> None:
    """Read the task, then judge until nobody asks any more."""
    task = Task(**json.loads(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one is interrupted too, and ends it
    # the soft limit alone: an engine's own child sets what it needs
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    policy = canonical.decode(Policy, task.policy.encode(), where="policy")
    with Judge(task.circuits, policy, second_opinion=tuple(task.second_opinion), alarms=Path(task.alarms)) as judge:
        gc.freeze()  # what is loaded stays: no collection has to walk it for each bundle
        _say({"ready": True})
        for line in sys.stdin.buffer:
            asked = json.loads(line)
            judgement = judge.judge(Path(os.fsdecode(bytes.fromhex(asked["path"]))))
            alarm = str(judgement.alarm) if judgement.alarm else None
            _say({"at": asked["at"], "verdict": canonical.to_builtins(judgement.verdict), "alarm": alarm})


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
