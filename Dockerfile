# `cdcd-video` in a container. README.md, section "Installing", shows how to build and run it.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# Empty: torch comes from the registry that pip asks by default, on Linux with CUDA. For a CPU-only build: the address in
# the command that PyTorch's own page gives for one.
ARG TORCH_INDEX=""
# Extras of pyproject.toml; empty: what sampling and training need.
ARG EXTRAS="eval,data"

# The kernels for CPUs, and torch's compiler, are built when they are first used.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

# torchvision, which the extra `eval` brings, must be of the same build.
RUN if [ -n "${TORCH_INDEX}" ]; then PIP_INDEX_URL="${TORCH_INDEX}" pip install --no-cache-dir "torch>=2.11" torchvision; fi

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY cdcd_video cdcd_video
COPY data_prep data_prep
COPY patches patches
COPY configs configs
COPY examples examples
RUN pip install --no-cache-dir ".${EXTRAS:+[${EXTRAS}]}" && cdcd-video --version

# What it writes (runs/, out/) goes into the current folder: mount yours here. Any user may run it.
ENV HOME=/tmp
WORKDIR /data
ENTRYPOINT ["cdcd-video"]
CMD ["--help"]
