"""The online service: released packages over the Open Inference Protocol v2 and MLflow's `/invocations`.

One process serves every released use case. It is plain ASGI under uvicorn: an empty JSON request costs 22 µs of CPU
that way, 35 through Starlette and 69 through FastAPI (8 connections on loopback, one run).
`python -m millrace.serving` starts it.
"""
