"""Situations of clients that leave and ask again, of every protocol with retries, on real sockets.

A client gives up while its group waits, comes back with the same body and no id, and stays; the
last member comes late. Every client gets the reward of a group of exactly these members.
"""

import random
import threading
import time

import dumps
import liar
from program import Server, as_json, metric
from sockets import WAYS_TO_GO, Gone, HalfHead, Http1

GROUP = 4
PAUSE_S = 0.15
JUDGED = "joust_reward_groups_total"


def rollout(prompt, said):
    content = [{"type": "output_text", "text": said}]
    message = {"type": "message", "role": "assistant", "content": content}
    asked = {"input": [{"role": "user", "content": prompt}]}
    return {"responses_create_params": asked, "response": {"output": [message]}}


def reward_of_rollout(answer):
    if "_ng_failure_class" in answer:
        raise KeyError(answer["_ng_failure_class"])
    return answer["reward"]


def chatml(prompt, said):
    turns = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{said}<|im_end|>\n"
    return {"input": [turns]}


# route, body of a prompt and a completion, reward of an answer
PROTOCOLS = {
    "OpenRLHF": (
        "/get_reward",
        lambda prompt, said: {"query": [prompt + said], "prompts": [prompt], "labels": ["1"]},
        lambda answer: answer["rewards"][0],
    ),
    "slime": (
        "/remote_rm",
        lambda prompt, said: {"prompt": prompt, "response": said, "label": "1"},
        lambda answer: answer,
    ),
    "verl": (
        "/remote_rm?key=score",
        lambda prompt, said: {"prompt": prompt, "response": said, "label": "1"},
        lambda answer: answer["score"],
    ),
    "NeMo-Gym": ("/verify", rollout, reward_of_rollout),
    "vLLM score": (
        "/score",
        lambda prompt, said: {"text_1": prompt, "text_2": said},
        lambda answer: answer["data"][0]["score"],
    ),
    "vLLM classify": ("/classify", chatml, lambda answer: answer["data"][0]["probs"][0]),
}


def waiting(server):
    _, data = Http1(server.port, "GET", "/health").answer()
    return as_json(data)["waiting_completions"]


def until(holds, patience_s=20):
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False


def leave_and_retry(tally, program, seed, way):
    """Members that leave once or twice before the last member comes."""
    kind, leave = WAYS_TO_GO[way]
    draw = random.Random(f"{seed} {way}")
    judge = liar.Liar()
    dump = program.folder / f"dump-{'-'.join(way.split())}".replace(",", "").replace("/", "-")
    serve = f"[serve]\ngroup_size = {GROUP}\ncollect_s = 60\ntimeout_s = 60\n"
    config = program.config("clients", judge.config() + serve)
    answers = {}
    with Server(program, config, f"serve.dump={dump}") as server:
        for protocol, (path, body, reward) in PROTOCOLS.items():
            for trial in range(2):
                tally.trial(GROUP)
                prompt = f"Which one? ({protocol} {trial}, {way})"
                said = [f"I answer with quality {(at * 7 + 3) % 10}." for at in range(GROUP)]
                bodies = [body(prompt, text) for text in said]
                lost = play(server, kind, leave, path, bodies, draw, tally, f"{protocol}, {way}")
                for text, data in zip(said, lost):
                    try:
                        answers[prompt, text] = reward(as_json(data))
                    except (TypeError, KeyError, IndexError):
                        tally.count("lost", f"{protocol}, {way}: no reward in {str(data)[:120]}")
        server.stop()
    rows = dumps.sets(dump, tally)
    dumps.check_evidence(rows, tally)
    by_prompt = dumps.groups(rows)
    for (prompt, text), value in answers.items():
        # some protocols send the prompt with the marks of a chat template
        shown = [text for text in by_prompt if prompt in text]
        found = [members for text in shown for members in by_prompt[text]]
        if len(found) != 1:
            tally.count("invented", f"{prompt}: {len(found)} groups")
            continue
        members = dict(found[0])
        tally.check(len(found[0]) == GROUP, "invented", f"{prompt}: {len(found[0])} members")
        tally.check(members.get(text) == value, "invented", f"{prompt}: {value} for {text}")
    judge.close()


def play(server, kind, leave, path, bodies, draw, tally, name):
    """Bodies of the answers of a group's members; `None` for a member without one."""
    stayed = []
    for at, body in enumerate(bodies[:-1]):
        for _ in range(draw.randint(0, 2)):
            gone = kind(server.port, "POST", path, body)
            until(lambda at=at: waiting(server) > at)
            leave(gone)
            noticed = until(lambda at=at: waiting(server) == at, 5)
            tally.check(noticed, "invented", f"{name}: a member that has left still waits")
        stayed.append(kind(server.port, "POST", path, body))
        until(lambda at=at: waiting(server) > at)
        time.sleep(draw.uniform(0, PAUSE_S))
    stayed.append(kind(server.port, "POST", path, bodies[-1]))
    return [answer_of(request, tally, name) for request in stayed]


def answer_of(request, tally, name):
    """The body of a 200; `None`, and a lost answer, for anything else."""
    try:
        status, data = request.answer()
    except (Gone, TimeoutError) as error:
        tally.count("lost", f"{name}: {error}")
        return None
    is_there = tally.check(status == 200, "lost", f"{name}: {status} {data[:160]}")
    return data if is_there else None


def leave_while_judged(tally, program, way):
    """Clients of whole groups that leave while the judge thinks: judged once, and found again."""
    kind, leave = WAYS_TO_GO[way]
    judge = liar.Liar(liar.slow)
    config = program.config("judged", judge.config() + "[serve]\ntimeout_s = 60\n")
    with Server(program, config) as server:
        before = metric_of(server, JUDGED)
        n_groups = 3
        for trial in range(n_groups):
            tally.trial()
            completions = [f"I answer with quality {at}." for at in range(GROUP)]
            body = {"prompt": f"Which? ({trial})", "completions": completions}
            gone = kind(server.port, "POST", "/v1/score_group", body)
            until(lambda: judge.n_open() > 0)
            leave(gone)
            time.sleep(PAUSE_S)
            again = kind(server.port, "POST", "/v1/score_group", body)
            if data := answer_of(again, tally, way):
                rewards = as_json(data)["rewards"]
                tally.check(None not in rewards, "lost", f"{way}: {rewards}")
        judged = metric_of(server, JUDGED) - before
        tally.check(judged == n_groups, "invented", f"{way}: {judged} groups judged of {n_groups}")
        abandoned(tally, server, judge, kind, leave, way)
    judge.close()


def abandoned(tally, server, judge, kind, leave, way):
    """A chat whose client has gone ends at the judge, and a job without askers can be cancelled."""
    judge.answer_as(liar.hang)
    tally.trial(2)
    chat = {"messages": [{"role": "user", "content": "Hello?"}]}
    gone = kind(server.port, "POST", "/v1/chat/completions", chat)
    until(lambda: judge.n_open() > 0)
    started = time.monotonic()
    leave(gone)
    # a call ends by itself after its time limit, so that only a quick end shows anything
    ended = until(lambda: judge.n_open() == 0, 1.0)
    tally.check(ended, "lost", f"{way}: a chat goes on {time.monotonic() - started:.1f} s later")
    until(lambda: judge.n_open() == 0, 30)

    body = {"prompt": "A job?", "completions": ["quality 1", "quality 2"]}
    status, data = Http1(server.port, "POST", "/v1/jobs", body).answer()
    job = as_json(data).get("job_id") if status == 202 else None
    if not tally.check(job, "lost", f"{way}: a job is answered by {status}"):
        return
    gone = kind(server.port, "POST", "/v1/score_group", body)
    until(lambda: judge.n_open() > 0)
    leave(gone)
    codes = []

    def cancelled():
        codes.append(Http1(server.port, "DELETE", f"/v1/jobs/{job}").answer()[0])
        return codes[-1] in (200, 202, 204)

    is_cancelled = until(cancelled, 5)
    tally.check(is_cancelled, "lost", f"{way}: a job without askers is not cancelled: {codes[-1:]}")


def metric_of(server, name):
    _, page = Http1(server.port, "GET", "/metrics").answer()
    return metric(page.decode(), name)


def leave_in_the_middle(tally, program):
    """Clients that leave within a body, within a stream, or send nothing: nobody else notices."""
    config = program.config("middle", '[reward.judge]\nkind = "rule"\n')
    with Server(program, config, "serve.timeout_s=60") as server:
        line = b'{"prompt": "2+2?", "completions": ["4", "5"], "answer": 4}\n'
        lines = {"content-type": "application/x-ndjson"}
        for trial in range(60):
            tally.trial()
            if trial % 3 == 0:
                request = Http1(server.port, "POST", "/v1/score_groups", line * 500, lines)
            elif trial % 3 == 1:
                promised = {"content-length": "100000"}
                request = Http1(server.port, "POST", "/v1/score_group", line, promised)
            else:
                request = HalfHead(server.port, "POST", "/v1/score_group", line)
            (request.reset if trial % 2 else request.close)()
        threads = [threading.Thread(target=one_group, args=(server, tally, at)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        idle = until(lambda: metric_of(server, "joust_server_open_groups") == 0, 30)
        tally.check(idle, "lost", "groups of clients that have gone stay open")


def one_group(server, tally, at):
    tally.trial()
    body = {"prompt": f"{at}+1?", "completions": [f"{at + 1}", "x"], "answer": at + 1}
    answer_of(Http1(server.port, "POST", "/v1/score_group", body), tally, "beside those that left")
