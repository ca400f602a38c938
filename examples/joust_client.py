"""Client of a joust server: sends JSON, retries where a retry may help, and returns the answer.

Used by the reward functions in the folders beside this file. Each looks for `joust_client.py` in
its own folder and in the folder above: copy the two files together. Needs the standard library
only, and knows no trainer.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
import uuid

# Statuses after which a retry may succeed: the queue is full (429), the server restarts (502, 503).
BUSY = (429, 502, 503)
# The same and 504: the group was not complete in time, or has no result yet. A retry finds the
# completion where it was. Only for requests of single completions.
BUSY_OR_INCOMPLETE = (*BUSY, 504)
# Number of tries of a request; the pauses between eight tries add up to two minutes.
TRIES = 8
# Maximum time of one try in seconds; more than `serve.collect_s` and `serve.timeout_s` together.
TIMEOUT_S = 7200.0
# Longest pause that a server may ask for, in seconds.
MAX_RETRY_AFTER_S = 600.0


class Refused(Exception):
    """The server answered with another status than 200."""

    def __init__(self, status, body, retry_after_s):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s


def json_headers(token=None):
    """Headers of a JSON body, with the token if there is one."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def token_of_environment():
    """The token in JOUST_TOKEN, if it is set."""
    return os.environ.get("JOUST_TOKEN")


def new_request_id():
    """Header that all tries of one completion share.

    The server takes a request with a known id for a retry, and one with another id for another
    member of the group, even if both members say the same.
    """
    return {"x-request-id": uuid.uuid4().hex}


def pause_s(attempt, retry_after_s=0.0):
    """Pause after the failed try number `attempt`, counted from 0, in seconds."""
    return max(2.0**attempt, retry_after_s)


def seconds_of(retry_after):
    """The pause that a Retry-After header asks for; 0 for a date, as proxies send, or nonsense."""
    try:
        seconds = float(retry_after)
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 <= seconds <= MAX_RETRY_AFTER_S else 0.0


def send(url, body, headers, timeout_s):
    """Sends a JSON body once and returns the JSON answer.

    Raises Refused for every other status than 200; OSError, HTTPException or ValueError if there is
    no answer, or half of one.
    """
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        retry_after_s = seconds_of(error.headers.get("Retry-After"))
        told = error.read().decode(errors="replace")
        raise Refused(error.code, told, retry_after_s) from error


def ask(url, body, headers, retried=BUSY, tries=TRIES, timeout_s=TIMEOUT_S):
    """Sends a JSON body until there is an answer, at most `tries` times, and returns the answer.

    `retried` are the statuses after which the request is sent again. Raises RuntimeError with the
    last problem if there is no answer: a missing reward is an error, never a number.
    """
    wait = 0.0
    for attempt in range(tries):
        time.sleep(wait)
        try:
            return send(url, body, headers, timeout_s)
        except Refused as refused:
            problem = str(refused)
            if refused.status not in retried:
                break
            wait = pause_s(attempt, refused.retry_after_s)
        # no connection; one that broke off in the middle of an answer; half an answer of a proxy
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem, wait = f"{type(error).__name__}: {error}", pause_s(attempt)
    raise RuntimeError(f"{url} gave no reward: {problem}")
