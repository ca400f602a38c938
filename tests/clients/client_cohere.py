"""cohere's clients: rerank by both of their versions.

    python client_cohere.py http://ADDRESS
"""

import asyncio
import sys

import cohere
from checks import ANSWERS, QUESTION, check, error_of, right_ones_win

URL = sys.argv[1]
FIRST = cohere.Client(api_key="x", base_url=URL)
SECOND = cohere.ClientV2(api_key="x", base_url=URL)


def scores(results):
    by_index = {row.index: row.relevance_score for row in results}
    return right_ones_win([by_index[at] for at in range(len(ANSWERS))])


def ask(client, documents=ANSWERS, **settings):
    return client.rerank(model="any", query=QUESTION, documents=documents, **settings).results


def asynchronous():
    client = cohere.AsyncClientV2(api_key="x", base_url=URL)
    return scores(asyncio.run(ask_asynchronously(client)))


async def ask_asynchronously(client):
    return (await client.rerank(model="any", query=QUESTION, documents=ANSWERS)).results


check("rerank of the second version", lambda: scores(ask(SECOND)))
check("rerank of the first version", lambda: scores(ask(FIRST)))
check("documents as objects", lambda: scores(ask(FIRST, [{"text": text} for text in ANSWERS])))
check("the best two", lambda: [row.index for row in ask(SECOND, top_n=2)])
check("an asynchronous client", asynchronous)
check("one document is refused", lambda: error_of(lambda: ask(SECOND, ANSWERS[:1]), "at least two"))
