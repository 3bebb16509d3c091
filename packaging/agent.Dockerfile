# The agent as an image, from the project's own source: docker build -f packaging/agent.Dockerfile .
FROM python:3.11-slim AS build
COPY . /src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.11-slim
COPY requirements/runtime.txt /tmp/runtime.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --requirement /tmp/runtime.txt && pip install --no-cache-dir --no-deps /wheels/*.whl \
    && python -m compileall -q "$(python -c 'import eru; print(eru.__path__[0])')" && rm -r /wheels /tmp/runtime.txt
# Reads the host's /proc from /hostProc, see examples/agent.yaml.
ENV AGENT_IN_DOCKER=1
CMD ["eru-agent", "--config", "/etc/eru/agent.yaml"]
