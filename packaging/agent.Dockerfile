# The agent as an image, where a registry and a package index can be reached:
#
#   docker build -t localhost/eru-agent:0.1.0 -f packaging/agent.Dockerfile .
#   docker build --build-arg BASE=registry.example/python:3.12-slim ...
#
# Without them: make agent-image.
ARG BASE=python:3.11-slim
FROM ${BASE} AS build
COPY pyproject.toml README.md /src/
COPY src /src/src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM ${BASE}
COPY requirements/runtime.txt /tmp/runtime.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --require-hashes --only-binary :all: --requirement /tmp/runtime.txt \
    && pip install --no-cache-dir --no-deps /wheels/*.whl \
    && python -m compileall -q "$(python -c 'import eru; print(eru.__path__[0])')" && rm -r /wheels /tmp/runtime.txt
# Reads the host's /proc from /hostProc, see examples/agent.yaml.
ENV AGENT_IN_DOCKER=1
CMD ["eru-agent", "--config", "/etc/eru/agent.yaml"]
