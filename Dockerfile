# The sample in a container: docker build -t mulcot-rd . && docker run --rm mulcot-rd
# To keep the results: docker run --rm -v "$PWD/data:/mulcot-rd/data" mulcot-rd
FROM python:3.11-slim

RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
# A build of torch without CUDA; for GPUs see docs/gpu.md.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_NO_CACHE_DIR=1

WORKDIR /mulcot-rd
COPY . .
RUN make .venv/ready
CMD ["make", "run"]
