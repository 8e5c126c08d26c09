# One image for every service: `docker run IMAGE run ingest`, `... migrate`, `... run all`.

FROM node:20-slim AS front-end
WORKDIR /front-end
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --no-audit --no-fund

FROM python:3.11-slim AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --require-hashes -r requirements.txt
COPY . .
RUN /venv/bin/pip install --no-deps ./contracts -e .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /app buildlight
COPY --from=packages /venv /venv
COPY --from=packages /app /app
COPY --from=front-end /front-end/node_modules /app/node_modules
WORKDIR /app
USER buildlight
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BUILDLIGHT_HOST=0.0.0.0
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/ready', timeout=4)"]
ENTRYPOINT ["buildlight"]
CMD ["run", "all"]
