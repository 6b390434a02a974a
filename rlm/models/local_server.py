"""The child process that runs llama.cpp: loads one GGUF file and serves OpenAI's chat completions on the loopback interface.

Started as a script by ``local_process``, so that a crash in C++ or a busy generation cannot take down or stall the host. It
is told everything by one line of JSON on stdin (never by arguments or environment: the key would be visible there), says on
stdout where it listens or why it cannot, and ends when stdin does, that is when its host is gone, however that went.
It must import nothing of the package: it starts in the time that llama.cpp needs to load, not the engine.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def serve(order: dict[str, Any]) -> object:
    """Loads the model and starts the server; returns it, because it ends when it is collected."""
    import xllamacpp  # noqa: PLC0415  (after stdout has been moved away: loading may print)

    params = xllamacpp.CommonParams()
    params.model.path = order["path"]
    params.model_alias = {order["name"]}
    params.n_parallel = order["slots"]
    params.n_ctx = order["slots"] * order["window_tokens"]
    params.n_predict = order["reply_tokens"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.sampling.temp = 0.0  # extraction and code want the likeliest reply; a request may ask for another
    params.cache_ram_mib = order["cache_mb"]
    params.api_keys = [order["key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = params.endpoint_slots = False
    params.verbosity = 1  # errors alone; they go to the file that the host quotes from
    return xllamacpp.Server(params)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever llama.cpp prints must not look like an answer
    order = json.loads(sys.stdin.readline())
    server: Any
    try:
        server = serve(order)
    except ImportError as error:
        answer = {"missing": str(error)}
    except Exception as error:  # noqa: BLE001  (all of them are told to the host, which knows what to advise)
        answer = {"error": str(error)}
    else:
        answer = {"url": server.listening_address}
    print(json.dumps(answer), file=answers, flush=True)
    if "url" in answer:
        sys.stdin.read()
    # Not sys.exit: the C++ threads of a running generation would be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
