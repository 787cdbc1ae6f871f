# The environment of requirements.lock, and the project in it. Not built where it was written.
#   docker build -t deepnets . && docker run -it deepnets
FROM python:3.12-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home deepnets \
    && install --directory --owner=deepnets /deepnets

USER deepnets
WORKDIR /deepnets

# Before the sources, so that a change of theirs installs nothing anew.
COPY --chown=deepnets requirements.lock ./
RUN python -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.lock

COPY --chown=deepnets . .
# make looks at .ready to know that the environment is level with the lock file.
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation -e . \
    && touch .venv/.ready

ENV PATH=/deepnets/.venv/bin:$PATH
EXPOSE 5000
CMD ["make", "tour"]
