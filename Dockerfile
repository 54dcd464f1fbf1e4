# The sample in a container: docker build -t mulcot-rd . && docker run --rm mulcot-rd
# To keep the results: docker run --rm -v "$PWD/data:/mulcot-rd/data" mulcot-rd
FROM python:3.11-slim

RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
# For a smaller image, name an index that has torch without CUDA: --build-arg PIP_EXTRA_INDEX_URL=URL
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1

WORKDIR /mulcot-rd
COPY . .
RUN make .venv/ready
CMD ["make", "run"]
