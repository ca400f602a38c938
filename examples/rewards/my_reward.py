"""A reward of one's own for `joust train` (docs/rewards.md): how near the last number is."""
import json
import re
import sys

for line in sys.stdin:
    group = json.loads(line)
    known = float(group["row"]["answer"])
    rewards = []
    for completion in group["completions"]:
        numbers = re.findall(r"-?\d+", completion["text"])
        distance = abs(float(numbers[-1]) - known) if numbers else None
        rewards.append(0.0 if distance is None else 1 / (1 + distance))
    print(json.dumps({"id": group["id"], "rewards": rewards}), flush=True)
