# An image with the pinned environment: docker build -t gdpo . ; docker run --rm gdpo make table2 SCALE=micro
FROM python:3.11.11-slim-bookworm

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git=1:2.39.* make=4.3-* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home gdpo

WORKDIR /home/gdpo/gdpo
RUN chown gdpo:gdpo .
USER gdpo

# The environment first: a change of the code does not install it anew.
COPY --chown=gdpo:gdpo envs/cpu.lock envs/
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --quiet --requirement envs/cpu.lock

COPY --chown=gdpo:gdpo . .
RUN .venv/bin/pip install --no-cache-dir --quiet --no-deps --editable . \
    && touch .venv/.installed

ENV PATH=/home/gdpo/gdpo/.venv/bin:$PATH
CMD ["gdpo", "--help"]
