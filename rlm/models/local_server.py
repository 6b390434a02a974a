"""The child process that runs llama.cpp: loads one GGUF file and serves OpenAI's chat completions on the loopback interface.

``local_process`` starts it as a script, so that a crash in C++ or a long generation cannot end or stall the host. Its
configuration is one line of JSON on stdin, because arguments and environment would expose the key. On stdout it reports its
address or an error. It exits when stdin ends, that is, when its host has ended for any reason. It imports nothing of the
package, so that only llama.cpp determines its start time.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def serve(order: dict[str, Any]) -> object:
    """Loads the model and starts the server. Returns it, because it stops when it is garbage-collected."""
    import xllamacpp  # noqa: PLC0415  (after stdout has been redirected: loading can print)

    params = xllamacpp.CommonParams()
    params.model.path = order["path"]
    params.model_alias = {order["name"]}
    params.n_parallel = order["slots"]
    params.n_ctx = order["slots"] * order["window_tokens"]
    params.n_predict = order["reply_tokens"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.sampling.temp = 0.0  # extraction and code need the likeliest reply; a request can override it
    params.cache_ram_mib = order["cache_mb"]
    params.api_keys = [order["key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = params.endpoint_slots = False
    params.verbosity = 1  # errors only, to the file that the host quotes
    return xllamacpp.Server(params)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of llama.cpp must not look like an answer
    order = json.loads(sys.stdin.readline())
    server: Any
    try:
        server = serve(order)
    except ImportError as error:
        answer = {"missing": str(error)}
    except Exception as error:  # noqa: BLE001  (the host reports it, with advice)
        answer = {"error": str(error)}
    else:
        answer = {"url": server.listening_address}
    print(json.dumps(answer), file=answers, flush=True)
    if "url" in answer:
        sys.stdin.read()
    # Not sys.exit, which would wait for the C++ threads of a running generation.
    os._exit(0)


if __name__ == "__main__":
    main()
