"""Situations of runs that are killed, told to end, or run out of disk: resumed, they end in the
bytes of a run that nobody disturbed.
"""

import random
import shutil
import signal
import subprocess
import time

import dumps
from program import PATIENCE_S, ended

# hold the folder, the starts and the times of a run
DIFFERS = {"run.json", "starts.jsonl", "config.toml", ".lock"}

TRAIN = (
    "configs/quickstart.toml",
    "train.steps=6",
    "train.prompts_per_step=3",
    "rollout.group_size=4",
    "rollout.max_completion_length=40",
    "eval.max_prompts=12",
    "eval.every=2",
    "checkpoint.every=2",
    "checkpoint.keep_last=0",
)
SFT = (
    "configs/nano-policy.toml",
    "trainer.steps=24",
    "trainer.batch_size=8",
    "trainer.learner.optim.schedule.warmup_updates=4",
    "checkpoint.every=4",
    "checkpoint.keep_last=0",
)


class Run:
    """One run folder below the program's folder."""

    def __init__(self, program, command, settings, name):
        self.program, self.command = program, command
        self.dir = program.folder / "runs" / name
        self.args = [command, *settings, f"run.output_dir={self.dir.parent}", f"run.name={name}"]
        if command == "sft":
            self.args.append(f"export.path={self.dir.parent}/{name}-model")

    def start(self, *more, **settings):
        return self.program.start(*self.args, *more, **settings)

    def resume(self):
        """Goes on, or begins where the kill came before there was a run folder."""
        return self.start(*(["--resume"] if self.dir.exists() else []))

    def finish(self):
        """Resumes to the end and returns the exit code."""
        return ended(self.resume())


def compare(whole, other, tally, name):
    """Counts the files of a run that differ from those of the undisturbed one."""
    wanted, found = (dumps.run_files(run.dir, DIFFERS) for run in (whole, other))
    for path in wanted.keys() - found.keys():
        tally.count("lost", f"{name}: {path}")
    for path in found.keys() - wanted.keys():
        tally.count("invented", f"{name}: {path}")
    for path in wanted.keys() & found.keys():
        tally.check(wanted[path] == found[path], "unreadable", f"{name}: {path} differs")
    for broken in dumps.unreadable_tables(other.dir):
        tally.count("unreadable", f"{name}: {broken}")


def undisturbed(program, command, settings):
    """The run that nobody disturbs, and the seconds that it takes; played once."""
    run = Run(program, command, settings, f"{command}-whole")
    if command not in program.seconds:
        started = time.monotonic()
        code = ended(run.start())
        if code != 0:
            raise RuntimeError(f"the undisturbed run ended with {code}")
        program.seconds[command] = time.monotonic() - started
    return run, program.seconds[command]


def killed(tally, program, seed, command, settings, n_runs, n_kills):
    """Runs that are killed at random moments, each several times."""
    whole, seconds = undisturbed(program, command, settings)
    draw = random.Random(f"{seed} {command}")
    for number in range(n_runs):
        run = Run(program, command, settings, f"{command}-killed-{number}")
        for _ in range(n_kills):
            process = run.resume()
            try:
                process.wait(draw.uniform(0.2, 0.4 * seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                tally.trial()
                continue
            done = process.returncode == 0
            tally.check(done, "lost", f"a resumed run ended with {process.returncode}")
            break
        code = run.finish()
        if tally.check(code == 0, "lost", f"the last start of run {number} ended with {code}"):
            compare(whole, run, tally, f"{command} {number}")


def told_to_end(tally, program, seed, settings):
    """The first signal ends the step and saves; a second start goes on from there."""
    whole, seconds = undisturbed(program, "train", settings)
    draw = random.Random(f"{seed} signals")
    for number, (sent, wanted) in enumerate([(signal.SIGTERM, 143), (signal.SIGINT, 130)] * 2):
        tally.trial()
        run = Run(program, "train", settings, f"train-told-{number}")
        process = run.start()
        deadline = time.monotonic() + PATIENCE_S
        while not (run.dir / "step_00001").exists() and process.poll() is None:
            if time.monotonic() > deadline:
                raise RuntimeError("no step was written")
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.4 * seconds))
        ran = process.poll() is None
        process.send_signal(sent)
        code = ended(process)
        if ran:
            tally.check(code == wanted, "lost", f"{sent.name}: exit {code}, wanted {wanted}")
            # the last step's metrics may wait for an evaluation that the signal broke off
            n_steps = max((int(path.name[5:]) for path in run.dir.glob("step_*")), default=0)
            saved = [int(path.name[5:]) for path in run.dir.glob("checkpoints/step_*")]
            whole_step = max(saved, default=0) == n_steps
            tally.check(whole_step, "lost", f"{sent.name}: {n_steps} steps, saved at {saved}")
        code = run.finish()
        if tally.check(code == 0, "lost", f"{sent.name}: resumed, it ended with {code}"):
            drop_checkpoints_between(whole, run)
            compare(whole, run, tally, sent.name)


def drop_checkpoints_between(whole, run):
    """A run that is told to end saves where the undisturbed one does not."""
    kept = {path.name for path in whole.dir.glob("checkpoints/*")}
    for path in run.dir.glob("checkpoints/*"):
        if path.name not in kept:
            shutil.rmtree(path)
