"""The summary of GPU results: tables in Markdown, with each figure's share of the memory bandwidth.

Knows the rows of results.jsonl and runs nothing.
"""

import json

GB = 1e9
LAYERS = 64
PRODUCTS = [f"{name} product in fp8" for name in ("qkv", "output", "gate_up", "down")]
PARTS = [
    *PRODUCTS,
    "attend_decode",
    "merge_splits to fp8",
    "rope_append",
    "rmsnorm_residual to fp8",
    "silu_mul to fp8",
    "head product in bf16",
    "sample",
]
# sections that list rows as they are
LISTS = (
    ("Precision", lambda row: row.get("bench") == "precision"),
    ("Votes", lambda row: row.get("bench") == "votes"),
    ("Greedy tokens", lambda row: row["step"] == "greedy"),
    ("Products with one scale per row that are refused", lambda row: "refused" in row),
    ("Notes", lambda row: "noted" in row),
    ("Sanitizer", lambda row: row["step"].startswith("sanitizer") and "clean" in row),
    ("transformers", lambda row: row["step"] == "transformers"),
    (
        "Kernels that are not right or failed",
        lambda row: row.get("is_right") is False or ("part" in row and "failed" in row),
    ),
    ("Machine", lambda row: row["step"] == "machine"),
)


def write_summary(rows, failures, path):
    """Writes the summary of all rows and failures."""
    copies = [row["gb_per_s"] for row in rows if row.get("part") == "copy in memory"]
    copy = max(copies, default=0.0)
    lines = ["# GPU results", ""]
    lines += [f"Copy in memory: {copy:.0f} GB/s of bytes read and written.", "", "## Decoding", ""]
    lines += decoding(rows, copy)
    lines += ["", "## Prefill and memory", "", *prefill(rows)]
    lines += ["", "## What a decoding step is made of", "", *step_parts(rows)]
    for title, keep in LISTS:
        found = [f"- `{json.dumps(row)}`" for row in rows if keep(row)]
        lines += ["", f"## {title}", "", *(found or ["none"])]
    lines += ["", "## Failures", "", *([f"- {step}: {why}" for step, why in failures] or ["none"])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def decoding(rows, copy):
    """Time of a decoding step, beside the time in which memory can be read at `copy` GB/s."""
    lines = [
        "| step | batch | ms | tokens/s | floor ms | of the floor |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.get("bench") != "engine":
            continue
        for figures in row["decode"]:
            # the mean context: the prompt, half of the new tokens, and the tokens decoded while the
            # other prompts of the batch were read
            context = row["prompt"] + row["new"] / 2 + figures["batch"] / 2
            read = (
                row["weights_mb"] * 1e6
                - 2 * 152064 * 5120
                + figures["batch"] * context * row["kv_bytes_per_token"]
            )
            floor = read / (copy * GB) * 1e3 if copy else float("nan")
            lines.append(
                f"| {row['step']} | {figures['batch']} | {figures['step_ms']:.2f} "
                f"| {figures['tokens_per_s']:.0f} | {floor:.2f} "
                f"| {100 * floor / figures['step_ms']:.0f} % |"
            )
    return lines


def prefill(rows):
    """Speed of the prefill, and memory of the GPU."""
    lines = ["| step | prompt | tokens/s | GPU memory used, GB |", "|---|---|---|---|"]
    for row in rows:
        if row.get("bench") == "engine":
            used = row.get("gpu_used_mb") or float("nan")
            lines.append(
                f"| {row['step']} | {row['prompt']} | {row['prefill_tokens_per_s']:.0f} "
                f"| {used / 1e3:.1f} |"
            )
    return lines


def step_parts(rows):
    """Times of a decoding step's parts, times the number of layers, beside the measured step."""
    lines = [
        "Time of each part times the number of layers, with bf16 keys and values at 2,048, beside "
        "the measured step.",
        "",
        "| batch | products ms | attention ms | other kernels ms | head ms | sampler ms | sum ms "
        "| step ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for batch in (1, 16, 64):
        us = {
            row["part"]: row["us"]
            for row in rows
            if row["step"] == "kernels at 2048" and row.get("rows") == batch and "failed" not in row
        }
        if any(part not in us for part in PARTS):
            continue
        products = LAYERS * sum(us[part] for part in PRODUCTS)
        attention = LAYERS * (us["attend_decode"] + us["merge_splits to fp8"])
        norms = 2 * us["rmsnorm_residual to fp8"]
        other = LAYERS * (us["rope_append"] + norms + us["silu_mul to fp8"])
        head, sampler = us["head product in bf16"], us["sample"]
        step = [
            figures["step_ms"]
            for row in rows
            if row["step"] == "decode, bf16 keys and values"
            for figures in row.get("decode", [])
            if figures["batch"] == batch
        ]
        total = products + attention + other + head + sampler
        cells = [f"{us / 1e3:.2f}" for us in (products, attention, other, head, sampler, total)]
        cells.append(f"{step[0] if step else float('nan'):.2f}")
        lines.append(f"| {batch} | {' | '.join(cells)} |")
    return lines
